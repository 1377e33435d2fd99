//! The fields and tags that the sources of a query have.

use std::collections::{BTreeMap, BTreeSet};

use crate::influxql::ast::{Cast, Reference};
use crate::influxql::plan::PlanSource;
use crate::influxql::value::DataType;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// The type of each field.
    pub fields: BTreeMap<String, DataType>,
    /// The tags.
    pub tags: BTreeSet<String>,
}

impl Names {
    pub fn of(sources: &[PlanSource]) -> Self {
        let mut names = Self::default();
        for source in sources {
            match source {
                PlanSource::Measure(measure) => {
                    for (name, field) in measure.schema.named_fields() {
                        if let Some(kind) = DataType::of(field.kind) {
                            names.add(name, kind);
                        }
                    }
                    let tags = measure.schema.tags().map(|tag| tag.name.to_string());
                    names.tags.extend(tags);
                }
                PlanSource::Subquery(plan) => {
                    for field in &plan.fields {
                        if let Some(kind) = field.kind {
                            names.add(&field.name, kind);
                        }
                    }
                    names.tags.extend(plan.dimensions.iter().cloned());
                }
            }
        }
        names
    }

    fn add(&mut self, name: &str, kind: DataType) {
        let known = self.fields.entry(name.to_owned()).or_insert(kind);
        *known = (*known).min(kind);
    }

    /// The type of what is meant; `None` if nothing has it.
    pub fn kind(&self, reference: &Reference) -> Option<DataType> {
        let field = self.fields.get(&reference.name).copied();
        let tag = self.tags.contains(&reference.name).then_some(DataType::Tag);
        match reference.cast {
            None => field.or(tag),
            Some(Cast::Field) => field,
            Some(Cast::Tag) => tag,
            Some(cast) => DataType::of_cast(cast),
        }
    }
}
