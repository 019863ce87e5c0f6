//! Refusals as the wire has them: a type, of which clients know some, and a text, of which they
//! know some others.

use kiva_proto::pdpb::{self, ErrorType};
use kiva_scheduler::Refusal;
use kiva_scheduler::operator::Unfit;
use kiva_scheduler::wire::WireError;

/// The error to put into a header.
pub(crate) fn header_error(refusal: &Refusal) -> pdpb::Error {
    let kind = match refusal {
        Refusal::NotBootstrapped => ErrorType::NotBootstrapped,
        Refusal::AlreadyBootstrapped => ErrorType::AlreadyBootstrapped,
        Refusal::StoreTombstone(_) => ErrorType::StoreTombstone,
        Refusal::AddressTaken { .. } => ErrorType::DuplicatedEntry,
        Refusal::Unfit(Unfit::RegionUnknown(_)) => ErrorType::RegionNotFound,
        Refusal::NotFirstRegion(_)
        | Refusal::IdNotAllocated { .. }
        | Refusal::TimestampCount { .. }
        | Refusal::IdCount { .. }
        | Refusal::CollectorStays
        | Refusal::ServiceName { .. }
        | Refusal::Unfit(_)
        | Refusal::Malformed(_) => ErrorType::InvalidValue,
        // No type says more than the text.
        Refusal::StoreNotFound(_) | Refusal::Stale(_) | Refusal::TooFast => ErrorType::Unknown,
    };
    pdpb::Error { r#type: kind as i32, message: refusal.to_string() }
}

/// The regions asked for are not all there.
pub(crate) fn hole() -> pdpb::Error {
    pdpb::Error {
        r#type: ErrorType::RegionsNotContainAllKeyRange as i32,
        message: "no region is known for some of these keys".to_owned(),
    }
}

/// A field without which the call means nothing.
pub(crate) fn missing(field: &'static str) -> WireError {
    WireError { field, reason: "is missing" }
}
