//! The types of parameters that follow from where they stand.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result as PlanResult};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};

use super::values;
use crate::sql::error::SqlError;

/// Parameters of a statement, as the protocol has it.
const MAX_PARAMETERS: usize = 65_535;

/// The types of the parameters of a plan as far as they are known, in the order of their numbers.
pub(in crate::sql) fn parameter_types(
    plan: &LogicalPlan,
) -> Result<Vec<Option<DataType>>, SqlError> {
    let mut types = Vec::new();
    for (name, data_type) in plan.get_parameter_types()? {
        note(&mut types, &name, data_type)?;
    }
    let mut others: Vec<(String, DataType)> = Vec::new();
    plan.apply_with_subqueries(|node| {
        let mut schema = DFSchema::empty();
        for input in node.inputs() {
            schema.merge(input.schema());
        }
        for expr in node.expressions() {
            look_at(&expr, &schema, &mut others)?;
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    for (name, data_type) in others {
        note(&mut types, &name, Some(data_type))?;
    }
    Ok(types)
}

fn note(
    types: &mut Vec<Option<DataType>>,
    placeholder: &str,
    found: Option<DataType>,
) -> Result<(), SqlError> {
    let at = values::index(placeholder)?;
    if at >= MAX_PARAMETERS {
        return Err(SqlError::BadRequest(format!(
            "{placeholder} is beyond the {MAX_PARAMETERS} parameters that a statement may have"
        )));
    }
    if at >= types.len() {
        types.resize(at + 1, None);
    }
    if let Some(place) = types.get_mut(at)
        && place.is_none()
    {
        *place = found;
    }
    Ok(())
}

/// What the planner does not say: a parameter that is cast has the type of the cast, and one that a
/// value is looked for in is a list of such values.
fn look_at(expr: &Expr, schema: &DFSchema, found: &mut Vec<(String, DataType)>) -> PlanResult<()> {
    expr.apply(|part| {
        match part {
            Expr::Cast(cast) => {
                if let Expr::Placeholder(placeholder) = cast.expr.as_ref() {
                    found.push((placeholder.id.clone(), cast.field.data_type().clone()));
                }
            }
            Expr::ScalarFunction(call) if call.name() == "array_has" => {
                if let [Expr::Placeholder(placeholder), value] = call.args.as_slice()
                    && let Ok(of) = value.get_type(schema)
                {
                    let list = DataType::List(Arc::new(Field::new_list_field(of, true)));
                    found.push((placeholder.id.clone(), list));
                }
            }
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}
