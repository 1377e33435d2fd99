//! Ranges of an object of a segment: from the cache on disk if there is one, or from the store.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{OBJECT_STORE_COALESCE_DEFAULT, ObjectStore, ObjectStoreExt};

use super::disk_cache::{BlockRead, DiskCache, SegmentFile};
use super::error::SegmentError;
use super::meter::ReadMeter;
use super::reader::SegmentLocation;

/// Reads one object. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct ObjectReader {
    store: Arc<dyn ObjectStore>,
    key: Path,
    bytes: u64,
    segment: u128,
    file: SegmentFile,
    disk: Option<Arc<DiskCache>>,
}

impl ObjectReader {
    /// A reader of one of the files of a segment.
    pub fn of(
        store: &Arc<dyn ObjectStore>,
        location: &SegmentLocation,
        file: SegmentFile,
        disk: Option<&Arc<DiskCache>>,
    ) -> Self {
        let (key, bytes) = match file {
            SegmentFile::Data => (&location.data, location.data_bytes),
            SegmentFile::Index => (&location.index, location.index_bytes),
        };
        Self {
            store: Arc::clone(store),
            key: key.clone(),
            bytes,
            segment: location.id,
            file,
            disk: disk.cloned(),
        }
    }

    /// The name of the object.
    pub fn name(&self) -> &str {
        self.key.as_ref()
    }

    /// Its size.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The bytes of some ranges, as many as were asked for. What is asked of the store is counted
    /// before.
    ///
    /// # Errors
    /// [`SegmentError::Corrupt`] if the object has fewer bytes than the catalog says.
    pub async fn ranges(
        &self,
        ranges: &[Range<u64>],
        meter: Option<&Arc<ReadMeter>>,
    ) -> Result<Vec<Bytes>, SegmentError> {
        // A damaged footer or root may ask for anything.
        if let Some(range) = ranges
            .iter()
            .find(|range| range.start > range.end || range.end > self.bytes)
        {
            return Err(SegmentError::corrupt(
                self.name(),
                format!("it refers to bytes {range:?}, and has {}", self.bytes),
            ));
        }
        let Some(disk) = &self.disk else {
            return self.fetch(ranges, meter).await;
        };
        let (segment, file) = (self.segment, self.file);
        let mut read = BlockRead::look_up(disk, segment, file, self.bytes, ranges).await;
        if let Some(meter) = meter {
            meter.found_on_disk(read.hits());
        }
        let missing = read.missing();
        if !missing.is_empty() {
            let found = self.fetch(&missing, meter).await?;
            read.fill(&missing, &found);
        }
        let found: Option<Vec<Bytes>> = ranges.iter().map(|range| read.get(range)).collect();
        found.ok_or_else(|| self.too_few())
    }

    async fn fetch(
        &self,
        ranges: &[Range<u64>],
        meter: Option<&Arc<ReadMeter>>,
    ) -> Result<Vec<Bytes>, SegmentError> {
        if let Some(meter) = meter {
            let (requests, bytes) = requests(ranges);
            meter.request(requests, bytes)?;
        }
        let _underway = ReadMeter::ask(meter);
        let is_whole = |found: &[Bytes]| {
            found
                .iter()
                .zip(ranges)
                .all(|(bytes, range)| bytes.len() as u64 == range.end - range.start)
        };
        let error = match self.store.get_ranges(&self.key, ranges).await {
            Ok(found) if is_whole(&found) => return Ok(found),
            Ok(_) => self.too_few(),
            Err(error) => SegmentError::store(self.name(), &error),
        };
        // Stores differ in what they answer beyond the end; its size says whether the object was
        // cut.
        Err(match (error, self.store.head(&self.key).await) {
            (SegmentError::Unavailable { .. }, Ok(info)) if info.size != self.bytes => {
                SegmentError::corrupt(
                    self.name(),
                    format!(
                        "it has {} bytes, the catalog says {}",
                        info.size, self.bytes
                    ),
                )
            }
            (error, _) => error,
        })
    }

    fn too_few(&self) -> SegmentError {
        SegmentError::Unavailable {
            object: self.name().to_owned(),
            message: "fewer bytes came than were asked for".to_owned(),
        }
    }
}

/// How many requests ranges become, and the bytes of these: stores read what lies close together at
/// once.
fn requests(ranges: &[Range<u64>]) -> (u64, u64) {
    let mut sorted: Vec<&Range<u64>> = ranges.iter().collect();
    sorted.sort_unstable_by_key(|range| range.start);
    let (mut requests, mut bytes, mut end) = (0, 0, None::<u64>);
    for range in sorted {
        match end {
            Some(last) if range.start <= last.saturating_add(OBJECT_STORE_COALESCE_DEFAULT) => {
                bytes += range.end.saturating_sub(last)
            }
            _ => {
                requests += 1;
                bytes += range.end - range.start;
            }
        }
        end = end.max(Some(range.end));
    }
    (requests, bytes)
}
