//! How the scripts show things.

use kiva_base::{KeyRange, Peer, PeerRole};
use kiva_scheduler::coordinator::OperatorView;
use kiva_scheduler::operator::{Action, PeerChange};
use kiva_scheduler::{Instruction, RegionReport, StoreDescription};
use kiva_testkit::script::format_bytes;

/// `peer@store`, with a mark on those that do not count.
pub(crate) fn peer(peer: &Peer) -> String {
    let mark = if peer.role == PeerRole::Learner { "-learner" } else { "" };
    format!("{}@{}{mark}", peer.id, peer.store)
}

fn peers<'a>(all: impl IntoIterator<Item = &'a Peer>) -> String {
    all.into_iter().map(peer).collect::<Vec<_>>().join("/")
}

pub(crate) fn range(range: &KeyRange) -> String {
    let bound = |bytes: &[u8]| match bytes {
        [] => "_".to_owned(),
        bytes => format_bytes(bytes),
    };
    format!("{}/{}", bound(range.start()), bound(range.end()))
}

pub(crate) fn region(report: &RegionReport) -> String {
    let RegionReport { region, leader, pending, down, size_bytes, .. } = report;
    let mut text = format!(
        "region {} {} epoch={}.{} peers={}",
        region.id,
        range(&region.range),
        region.epoch.conf_ver,
        region.epoch.version,
        peers(&region.peers),
    );
    text += &leader.map_or(" leader=none".to_owned(), |leader| format!(" leader={}", leader.id));
    if !pending.is_empty() {
        text += &format!(" pending={}", peers(pending));
    }
    for down in down {
        text += &format!(" down={}-{}", peer(&down.peer), down.seconds);
    }
    if *size_bytes > 0 {
        text += &format!(" size={size_bytes}");
    }
    text
}

pub(crate) fn instruction(instruction: &Instruction) -> String {
    let change = |change: &PeerChange| match change {
        PeerChange::Put(put) => format!("put {}", peer(put)),
        PeerChange::Remove(gone) => format!("remove {}@{}", gone.id, gone.store),
    };
    let action = match &instruction.action {
        Action::ChangePeers(changes) => {
            changes.iter().map(change).collect::<Vec<_>>().join(" and ")
        }
        Action::TransferLeader(to) => format!("transfer leader to {}", peer(to)),
    };
    let (region, epoch) = (instruction.region, instruction.epoch);
    let leader = peer(&instruction.leader);
    format!("→ {leader} region {region} epoch={}.{}: {action}", epoch.conf_ver, epoch.version)
}

pub(crate) fn operator(view: &OperatorView) -> String {
    format!("{:?} {}", view.status, view.operator)
}

pub(crate) fn store(found: &StoreDescription) -> String {
    let StoreDescription { view, health, tally, log } = found;
    let mut text = format!(
        "store {} {:?} {health:?} peers={} leaders={} followers={} pending={} size={}",
        view.store.id,
        view.store.state,
        tally.peers,
        tally.leaders,
        tally.followers(),
        tally.pending,
        tally.size_bytes,
    );
    if log.position > 0 || log.lost_below > 0 {
        text += &format!(" log={} lost_below={}", log.position, log.lost_below);
    }
    text
}
