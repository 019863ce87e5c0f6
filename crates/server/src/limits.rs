//! What a server takes and gives at most, each with the reason for its value.

use std::time::Duration;

/// Largest gRPC request in bytes. Twice the largest entry of the protocol's heaviest user (6 MiB),
/// and a frame of 128 commands with values of 64 KiB still fits.
pub const REQUEST_SIZE_MAX: usize = 16 * 1024 * 1024;

/// Largest gRPC answer in bytes that we encode. Clients refuse more than 4 MiB by default, so pages
/// are cut well below; this one only stops a mistake before it fills the memory.
pub const RESPONSE_SIZE_MAX: usize = 64 * 1024 * 1024;

/// Bytes that one stream may have in flight towards us.
pub const STREAM_WINDOW: u32 = 2 * 1024 * 1024;

/// Bytes that one connection may have in flight towards us, over all its streams.
pub const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;

/// Requests that one connection may have open. A load generator puts some thousands on one
/// connection; each open stream costs about a kilobyte.
pub const STREAMS_MAX: u32 = 16 * 1024;

/// Bytes of headers that one request may carry. gRPC clients send some hundred.
pub const HEADERS_SIZE_MAX: u32 = 16 * 1024;

/// Connections that one listener holds open at a time. The next ones are closed at once, which a
/// client sees as a refusal, instead of taking the last file descriptors of the engine.
pub const CONNECTIONS_MAX: usize = 8 * 1024;

/// Accepted connections that wait for a runtime. When this is full the listener pauses, and new
/// connections wait in the system's backlog.
pub const HANDOVER_MAX: usize = 64;

/// How long requests that are being served may take to finish once a shutdown was asked for.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);

/// How often a silent HTTP/2 peer is asked whether it still lives. Frees what a machine that was
/// unplugged leaves behind.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(60);

/// How long such a peer has to answer.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// How long an HTTP/1.1 peer may take to send the head of a request.
pub const HEAD_READ_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the listener pauses after the system refused to accept, for want of descriptors say.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Instructions to the leaders on one store that wait for their stream. Operators that run at a
/// time are fewer, and what is dropped is said again.
pub const INSTRUCTIONS_MAX: usize = 256;

/// Requests for timestamps of one stream that are answered before the task lets others run.
pub const TSO_ROUND_MAX: usize = 256;

/// Commands of one batch stream that run at a time. When there are more the stream is not read, and
/// its client waits.
pub const BATCH_RUNNING_MAX: usize = 4 * 1024;

/// Bytes of answers after which a frame of a batch stream leaves, well below what clients accept.
pub const BATCH_FRAME_SIZE: usize = 1024 * 1024;

/// Long reads that wait for a thread. When it is full whoever asks reads by itself.
pub const READ_QUEUE_MAX: usize = 1024;

/// How long a store that starts looks for a scheduler before it gives up.
pub const JOIN_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a store waits before it asks a scheduler again.
pub const PLACEMENT_PAUSE: Duration = Duration::from_millis(200);

/// How long the scheduler may take to answer a store.
pub const PLACEMENT_TIMEOUT: Duration = Duration::from_secs(3);

/// How often a store reports itself, and its regions when nothing about them has changed.
pub const STORE_HEARTBEAT: Duration = Duration::from_secs(10);

/// How long a start waits for regions that have nobody but this store to be led. An election alone
/// takes one write; after a restart it waits out what the peer may have promised, a second at most.
pub const ELECTION_WAIT_MAX: Duration = Duration::from_secs(5);

/// How often it is looked whether they are.
pub const ELECTION_PAUSE: Duration = Duration::from_millis(2);

/// Reports of regions that wait for the scheduler; more are dropped, and said again a minute later.
/// After an election storm every region has one.
pub const REPORTS_QUEUED_MAX: usize = 16 * 1024;

/// A store that has missed one report is not down: with less, every store would be, between two of
/// its reports.
pub const STORE_DOWN_MS_MIN: u32 = 15_000;
/// A day: a region that waits for longer has probably lost another peer.
pub const STORE_DOWN_MS_MAX: u32 = 24 * 60 * 60 * 1_000;

/// Bytes that wait for another store; what exceeds them is dropped. A quarter of a second of a
/// gigabit link: what waits for longer is sent again anyway.
pub const PEER_QUEUE_MAX: usize = 32 * 1024 * 1024;

/// What a frame between stores gathers, in bytes. Half a stream's window, so that the next one is
/// made while this one is on its way; nothing is saved by more.
pub const FRAME_BYTES: usize = 1024 * 1024;

/// Largest frame between stores in bytes. An entry of 8 MiB fits, with what leads it.
pub const FRAME_BYTES_MAX: usize = 10 * 1024 * 1024;

/// How long another store may take to accept a connection and then a stream, and the scheduler to
/// say where it is. Together with the longest pause this is what a store that was away waits for
/// us, and less than a lost leader may cost.
pub const LINK_TIMEOUT: Duration = Duration::from_millis(500);

/// The pause after a store could not be reached for the first time.
pub const LINK_PAUSE_MIN: Duration = Duration::from_millis(50);

/// The longest pause before it is tried again. An attempt at nobody costs some packets.
pub const LINK_PAUSE_MAX: Duration = Duration::from_millis(500);

/// How often another store is asked whether it lives, and how long it may take to answer. A network
/// that was cut is noticed within their sum.
pub const LINK_PING_INTERVAL: Duration = Duration::from_secs(1);

/// How long a snapshot waits for a receiver that is busy with others. Then the leader hears that it
/// did not arrive, and takes a newer one: this one pins what the engine could forget.
pub const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(60);

/// Bytes of snapshots that a store sends per second, all together, unless configured: most of a
/// gigabit link.
pub const SNAPSHOT_BYTES_PER_SECOND: u64 = 100 * 1024 * 1024;

/// Memory for blocks of the scheduler's tables. Everything it knows is in memory as well.
pub const SCHEDULER_CACHE_BYTES: u64 = 4 * 1024 * 1024;

/// Bytes of the scheduler's memtable: some hundred thousand changes of windows and regions.
pub const SCHEDULER_MEMTABLE_BYTES: u64 = 8 * 1024 * 1024;

/// Most peers that a region can be asked to have. Each costs every write a message.
pub const REPLICAS_MAX: u32 = 9;

/// Shortest tick in milliseconds: below it a late thread looks like a lost leader.
pub const TICK_MS_MIN: u32 = 10;

/// Longest tick in milliseconds: a lost leader would be noticed after half a minute.
pub const TICK_MS_MAX: u32 = 2_000;

/// Memory for blocks of a store's tables, in bytes, unless configured.
pub const STORE_CACHE_BYTES: u64 = 256 * 1024 * 1024;

/// The least that makes sense: a few blocks per core.
pub const STORE_CACHE_BYTES_MIN: u64 = 1024 * 1024;

/// Memory for blocks while the data of a stopped store is looked at: everything is read once.
pub const INSPECT_CACHE_BYTES: u64 = 16 * 1024 * 1024;

/// Size of a store's memtable in bytes, unless configured.
pub const STORE_MEMTABLE_BYTES: u64 = 64 * 1024 * 1024;

/// The least that makes sense: smaller ones make more tables than can be merged.
pub const STORE_MEMTABLE_BYTES_MIN: u64 = 1024 * 1024;

/// Most threads of one kind. More than cores only take turns.
pub const THREADS_MAX: usize = 1024;

/// Most labels of a store: they travel with every answer that lists stores.
pub const LABELS_MAX: usize = 32;

const _: () = assert!(STORE_DOWN_MS_MIN as u128 > STORE_HEARTBEAT.as_millis());
const _: () = assert!(STREAM_WINDOW <= CONNECTION_WINDOW);
const _: () = assert!(REQUEST_SIZE_MAX <= RESPONSE_SIZE_MAX);
const _: () = assert!(FRAME_BYTES <= FRAME_BYTES_MAX && FRAME_BYTES_MAX <= PEER_QUEUE_MAX);
// With room for what protobuf adds.
const _: () = assert!(FRAME_BYTES_MAX + 1024 <= REQUEST_SIZE_MAX);
