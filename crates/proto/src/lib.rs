//! The messages and services that clients of TiKV speak, generated from `proto/`.
//!
//! There is one module per protobuf package, under the package's own name, because the names are
//! on the wire: a client dials `/tikvpb.Tikv/RawGet`. Nothing here decides anything. Modules called
//! `wire` elsewhere in the workspace turn these types into our own, and only they and the service
//! stubs around them know that protobuf exists.
//!
//! ```text
//!  tikvpb       the store's service, and many commands in one message
//!  kvrpcpb      what each command asks and answers, and the errors of single keys
//!  coprocessor  pushed-down reads
//!  errorpb      why a request to a region was refused
//!  pdpb         the scheduler's service
//!  keyspacepb   keyspaces by name
//!  kivapb       what only our own processes say to each other
//!  metapb       stores, regions, peers
//!  deadlock     who waits for whom
//! ```
//!
//! Beside them are the two calls of etcd that `kiva bench` times next to ours (`etcdserverpb`,
//! `mvccpb`), and a call of our own that costs what any unary call costs (`echopb`).
//!
//! # What to know about generated code
//!
//! - A nested message is absent or present, so its field is an `Option`. Everything else has a
//!   value: 0, empty or `false` are not even sent. An empty value of a key and no value look the
//!   same, which is why several answers carry a `not_found`.
//! - An enum field is an `i32`, for the other side may know more variants than we do. Read it with
//!   `Type::try_from(number)`.
//! - A `bytes` field is a [`bytes::Bytes`]: a slice of the frame it arrived in. A few bytes that
//!   are kept for long should be copied, or they keep the frame.
//! - Every method of a service trait has a body that answers UNIMPLEMENTED, which clients take to
//!   mean an older server. A service overrides what it serves. Streams are answered with
//!   [`tonic::codegen::BoxStream`].
//! - Fields and methods we do not list are skipped when they arrive, as protobuf has it. So a
//!   newer client may talk to us.
//!
//! # Where the numbers come from
//!
//! Names, numbers and types are TiKV's public protocol: they are facts that have to agree, and
//! `tests/fields.txt` pins those that clients rely on. The files are written here, and hold what
//! clients of raw and transactional calls use, no more. A number that the protocol gives to a
//! field we leave out is `reserved` where it would be tempting to reuse.
//!
//! # To add a message
//!
//! 1. Take number, type and name of each field from the protocol. Never choose one: a new field of
//!    our own belongs in a message of our own.
//! 2. Write the message into the file of its subject under `proto/`, with a sentence on what it is
//!    for. The sentence becomes its documentation here.
//! 3. Add a line to `tests/fields.txt` if a client depends on it.
//!
//! A new file is found as soon as another imports it; a new package also needs a module below, and
//! a new service a place in the list of roots in `build.rs`.

/// Every message and service as data: for tests, and for tools that ask a server what it speaks.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("descriptors");

/// Pushed-down reads.
#[allow(missing_docs, reason = "generated; messages are documented, most fields by their names")]
pub mod coprocessor {
    tonic::include_proto!("coprocessor");
}

/// Who waits for whom.
#[allow(missing_docs, reason = "generated; messages are documented, most fields by their names")]
pub mod deadlock {
    tonic::include_proto!("deadlock");
}

/// A server that does nothing but answer.
#[allow(missing_docs, reason = "generated; messages are documented, most fields by their names")]
pub mod echopb {
    tonic::include_proto!("echopb");
}

/// Why a request to a region was refused.
#[allow(missing_docs, reason = "generated; messages are documented, most fields by their names")]
pub mod errorpb {
    tonic::include_proto!("errorpb");
}

/// The key-value service of etcd, as far as it is timed beside ours.
#[allow(missing_docs, reason = "generated; messages are documented, most fields by their names")]
pub mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
}

/// Keyspaces by name.
#[allow(missing_docs, reason = "generated; messages are documented, most fields by their names")]
pub mod keyspacepb {
    tonic::include_proto!("keyspacepb");
}

/// What only our own processes say to each other. Not part of the public protocol.
#[allow(missing_docs, reason = "generated; messages are documented, most fields by their names")]
pub mod kivapb {
    tonic::include_proto!("kivapb");
}

/// What each command to a store asks and answers, and the errors of single keys.
#[allow(missing_docs, reason = "generated; messages are documented, most fields by their names")]
pub mod kvrpcpb {
    tonic::include_proto!("kvrpcpb");
}

/// Stores, regions, peers.
#[allow(missing_docs, reason = "generated; messages are documented, most fields by their names")]
pub mod metapb {
    tonic::include_proto!("metapb");
}

/// Pairs as etcd answers them.
#[allow(missing_docs, reason = "generated; messages are documented, most fields by their names")]
pub mod mvccpb {
    tonic::include_proto!("mvccpb");
}

/// The scheduler's service.
#[allow(missing_docs, reason = "generated; messages are documented, most fields by their names")]
pub mod pdpb {
    tonic::include_proto!("pdpb");
}

/// The store's service, and many commands in one message.
#[allow(missing_docs, reason = "generated; messages are documented, most fields by their names")]
pub mod tikvpb {
    tonic::include_proto!("tikvpb");
}
