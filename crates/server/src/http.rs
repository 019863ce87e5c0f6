//! What the scheduler answers over HTTP, in the field names of the placement driver that TiKV's
//! tools know.

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use kiva_base::{KeyRange, Peer, PeerRole};
use kiva_scheduler::cluster::Health;
use kiva_scheduler::{Refusal, RegionReport, StoreState, StoreView};
use serde_json::{Value, json};

use crate::REPORTED_VERSION;
use crate::service::scheduler::SchedulerService;

/// The routes of the scheduler's port.
pub fn routes(service: SchedulerService) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/pd/api/v1/health", get(members_health))
        .route("/pd/api/v1/members", get(members))
        .route("/pd/api/v1/regions", get(regions))
        .route("/pd/api/v1/stores", get(stores))
        .route("/pd/api/v1/version", get(version))
        .fallback(nothing_here)
        .with_state(service)
}

/// For whatever path nobody serves.
pub async fn nothing_here(uri: Uri) -> Response {
    let error = format!("nothing is served at {}", uri.path());
    (StatusCode::NOT_FOUND, Json(json!({ "error": error }))).into_response()
}

async fn health() -> Json<Value> {
    Json(json!({ "health": true }))
}

async fn members_health(State(service): State<SchedulerService>) -> Json<Value> {
    let membership = service.membership();
    Json(json!([{
        "name": membership.name,
        "member_id": service.member_id(),
        "client_urls": [membership.client_url],
        "health": true,
    }]))
}

async fn members(State(service): State<SchedulerService>) -> Json<Value> {
    let membership = service.membership();
    let member = json!({
        "name": membership.name,
        "member_id": service.member_id(),
        "peer_urls": [membership.peer_url],
        "client_urls": [membership.client_url],
        "binary_version": REPORTED_VERSION,
    });
    Json(json!({
        "header": { "cluster_id": service.scheduler().cluster_id().get() },
        "members": [member],
        "leader": member,
        "etcd_leader": member,
    }))
}

async fn version() -> Json<Value> {
    Json(json!({ "version": REPORTED_VERSION, "kiva": env!("CARGO_PKG_VERSION") }))
}

async fn regions(State(service): State<SchedulerService>) -> Response {
    match service.scheduler().regions(&KeyRange::ALL, usize::MAX) {
        Ok(found) => {
            let regions: Vec<_> = found.iter().map(|report| region(report)).collect();
            Json(json!({ "count": regions.len(), "regions": regions })).into_response()
        }
        Err(refusal) => refused(&refusal),
    }
}

async fn stores(State(service): State<SchedulerService>) -> Json<Value> {
    let scheduler = service.scheduler();
    let stores: Vec<_> = scheduler
        .stores()
        .iter()
        .map(|view| store(view, scheduler.leaders_on(view.store.id), scheduler.health(view)))
        .collect();
    Json(json!({ "count": stores.len(), "stores": stores }))
}

fn refused(refusal: &Refusal) -> Response {
    let error = Json(json!({ "error": refusal.to_string() }));
    (StatusCode::SERVICE_UNAVAILABLE, error).into_response()
}

fn region(report: &RegionReport) -> Value {
    let region = &report.region;
    json!({
        "id": region.id.get(),
        "start_key": hex(region.range.start()),
        "end_key": hex(region.range.end()),
        "epoch": { "conf_ver": region.epoch.conf_ver, "version": region.epoch.version },
        "peers": region.peers.iter().copied().map(peer).collect::<Vec<_>>(),
        "leader": report.leader.map(peer),
        "approximate_size": report.size_bytes.div_ceil(1024 * 1024),
        "approximate_keys": report.keys,
    })
}

fn peer(peer: Peer) -> Value {
    let (role, name) = match peer.role {
        PeerRole::Voter => (0, "Voter"),
        PeerRole::Learner => (1, "Learner"),
    };
    json!({
        "id": peer.id.get(),
        "store_id": peer.store.get(),
        "role": role,
        "role_name": name,
    })
}

fn store(view: &StoreView, leaders: usize, health: Health) -> Value {
    let store = &view.store;
    let state = match (store.state, health) {
        (StoreState::Up, Health::Disconnected) => "Disconnected",
        (StoreState::Up, Health::Down) => "Down",
        (state, _) => state.name(),
    };
    let labels: Vec<_> =
        store.labels.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
    json!({
        "store": {
            "id": store.id.get(),
            "address": store.address,
            "peer_address": store.peer_address,
            "status_address": store.status_address,
            "labels": labels,
            "version": store.version,
            "start_timestamp": store.start_timestamp,
            "last_heartbeat": view.last_heartbeat_ms.saturating_mul(1_000_000),
            "state_name": state,
        },
        "status": {
            "capacity": view.stats.capacity.to_string(),
            "available": view.stats.available.to_string(),
            "used_size": view.stats.used.to_string(),
            "leader_count": leaders,
            "region_count": view.stats.region_count,
        },
    })
}

/// Upper-case hexadecimal digits, as everybody writes region boundaries.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// An address as clients are told it.
pub fn url(address: &str) -> String {
    if address.contains("://") { address.to_owned() } else { format!("http://{address}") }
}
