//! The two streams of the scheduler: timestamps, and what leaders report.
//!
//! A stream answers whatever is there before it waits, so answers to requests that came in one
//! frame leave in one frame. When a shutdown is requested it answers what has already arrived, up
//! to a bound, and ends with `UNAVAILABLE`, upon which clients look for another member.

use futures_util::stream;
use kiva_proto::pdpb::{
    RegionHeartbeatRequest, RegionHeartbeatResponse, Timestamp as WireTimestamp, TsoRequest,
    TsoResponse,
};
use kiva_scheduler::{Error, Instruction, Refusal, wire};
use tonic::codegen::BoxStream;
use tonic::{Status, Streaming};

use super::SchedulerService;
use super::leaders::Seat;
use crate::limits::TSO_ROUND_MAX;
use crate::runtime::{Shutdown, blocking};

/// Answers each request with as many timestamps as it asks for, in order.
pub(super) fn timestamps(
    service: SchedulerService,
    requests: Streaming<TsoRequest>,
) -> BoxStream<TsoResponse> {
    let inbox = Inbox::new(requests, service.shutdown.clone());
    Box::pin(stream::try_unfold((service, inbox), |(service, mut inbox)| async move {
        let Some(request) = inbox.next().await? else {
            return Ok(None);
        };
        let response = answer(&service, request).await?;
        Ok(Some((response, (service, inbox))))
    }))
}

async fn answer(service: &SchedulerService, request: TsoRequest) -> Result<TsoResponse, Status> {
    service.check(&request.header)?;
    let count = request.count;
    let last = match service.scheduler.timestamps_at_once(count) {
        Ok(Some(last)) => last,
        Ok(None) => {
            let scheduler = service.scheduler.clone();
            blocking(move || scheduler.timestamps(count)).await.map_err(ends_stream)?
        }
        Err(refusal) => return Err(ends_stream(refusal.into())),
    };
    Ok(TsoResponse {
        header: service.header(),
        count,
        timestamp: Some(WireTimestamp {
            // 46 and 18 bits.
            physical: last.physical_ms() as i64,
            logical: last.logical() as i64,
            suffix_bits: 0,
        }),
    })
}

/// An answer without a timestamp would be taken for one, so any failure ends the stream.
fn ends_stream(error: Error) -> Status {
    match error {
        Error::Refused(Refusal::TooFast) => Status::resource_exhausted(error.to_string()),
        Error::Refused(refusal) => Status::invalid_argument(refusal.to_string()),
        Error::Failed(error) => Status::unavailable(error.to_string()),
    }
}

/// Takes in each report, and tells leaders what they should do: as an answer when something is due,
/// and unasked when it becomes due later. A report that is refused is answered with why.
pub(super) fn reports(
    service: SchedulerService,
    requests: Streaming<RegionHeartbeatRequest>,
) -> BoxStream<RegionHeartbeatResponse> {
    let inbox = Inbox::new(requests, service.shutdown.clone());
    let seat = service.leaders.seat();
    let state = (service, inbox, seat);
    Box::pin(stream::try_unfold(state, |(service, mut inbox, mut seat)| async move {
        loop {
            let response = tokio::select! {
                biased;
                // First, because reports may come without end.
                instruction = seat.told() => Some(told(&service, &instruction)),
                request = inbox.next() => match request? {
                    Some(request) => heard(&service, &seat, request)?,
                    None => return Ok(None),
                },
            };
            if let Some(response) = response {
                return Ok(Some((response, (service, inbox, seat))));
            }
        }
    }))
}

/// Takes in a report; what its leader should do, or why it was refused.
fn heard(
    service: &SchedulerService,
    seat: &Seat,
    request: RegionHeartbeatRequest,
) -> Result<Option<RegionHeartbeatResponse>, Status> {
    service.check(&request.header)?;
    let heard = wire::report_from_wire(&request).map_err(Refusal::from).and_then(|report| {
        let store = report.leader.map(|leader| leader.store);
        let instruction = service.scheduler.on_region_heartbeat(report)?;
        if let Some(store) = store {
            seat.heard(store);
        }
        Ok(instruction)
    });
    if let Ok(instruction) = heard {
        return Ok(instruction.map(|instruction| told(service, &instruction)));
    }
    let (header, _) = service.answer(heard)?;
    Ok(Some(RegionHeartbeatResponse {
        header,
        region_id: request.region.map_or(0, |region| region.id),
        target_peer: request.leader,
        ..RegionHeartbeatResponse::default()
    }))
}

fn told(service: &SchedulerService, instruction: &Instruction) -> RegionHeartbeatResponse {
    RegionHeartbeatResponse { header: service.header(), ..wire::instruction_to_wire(instruction) }
}

/// The requests of a stream, until its client or a shutdown ends it.
struct Inbox<T> {
    requests: Streaming<T>,
    shutdown: Shutdown,
    /// How many requests are still taken once a shutdown is requested.
    left: usize,
}

impl<T> Inbox<T> {
    fn new(requests: Streaming<T>, shutdown: Shutdown) -> Self {
        Self { requests, shutdown, left: TSO_ROUND_MAX }
    }

    /// `None` when the client has ended the stream.
    async fn next(&mut self) -> Result<Option<T>, Status> {
        let is_over = self.shutdown.is_requested() && self.left == 0;
        if is_over {
            return Err(stopping());
        }
        tokio::select! {
            biased;
            request = self.requests.message() => {
                if self.shutdown.is_requested() {
                    self.left -= 1;
                }
                // A client that hangs up ends its stream with an error, which is nobody's concern.
                request
            }
            () = self.shutdown.requested() => Err(stopping()),
        }
    }
}

fn stopping() -> Status {
    Status::unavailable("the scheduler is stopping")
}
