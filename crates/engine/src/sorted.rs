//! The gate of an ingestion: what passes is strictly ascending and within the limits.

use bytes::Bytes;

use crate::batch::check_pair;
use crate::{Cf, EngineError, SortedItem, SortedItems};

/// Items from outside, checked one by one.
///
/// Invariant: every item it gave was above the one before it, by family and then by key.
pub(crate) struct Checked<'a> {
    items: &'a mut dyn SortedItems,
    last: Option<(Cf, Bytes)>,
}

impl<'a> Checked<'a> {
    pub(crate) fn new(items: &'a mut dyn SortedItems) -> Self {
        Self { items, last: None }
    }

    pub(crate) fn next(&mut self) -> Result<Option<SortedItem>, EngineError> {
        let Some(item) = self.items.next()? else {
            return Ok(None);
        };
        check_pair(&item.key, item.value.as_deref().unwrap_or_default())?;
        let position = (item.cf, item.key.clone());
        if self.last.as_ref().is_some_and(|last| *last >= position) {
            return Err(EngineError::Malformed("items of an ingestion must ascend"));
        }
        self.last = Some(position);
        Ok(Some(item))
    }
}
