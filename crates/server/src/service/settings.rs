//! `kivapb.Cluster`: what only our own processes ask of the scheduler. A store asks what it has to
//! live by before it joins and says how far its log is; people ask what is known and done.

use kiva_proto::kivapb::cluster_server::Cluster;
use kiva_proto::kivapb::*;
use kiva_scheduler::coordinator::OperatorView;
use kiva_scheduler::operator::Status as Progress;
use kiva_scheduler::{Refusal, wire};
use tonic::{Request, Response, Status};

use super::scheduler::SchedulerService;

#[tonic::async_trait]
impl Cluster for SchedulerService {
    async fn get_settings(
        &self,
        request: Request<GetSettingsRequest>,
    ) -> Result<Response<GetSettingsResponse>, Status> {
        // Without a header it is asked by somebody who does not know the cluster yet.
        if let header @ Some(_) = &request.get_ref().header {
            self.check(header)?;
        }
        Ok(Response::new(GetSettingsResponse {
            header: self.header(),
            settings: Some(wire::settings_to_wire(self.scheduler().settings())),
        }))
    }

    async fn report_log(
        &self,
        request: Request<ReportLogRequest>,
    ) -> Result<Response<ReportLogResponse>, Status> {
        let ReportLogRequest { header, store_id, position, is_start } = request.into_inner();
        self.check(&header)?;
        let (header, log) = self
            .saving(move |scheduler| scheduler.report_log(store_id, position, is_start))
            .await?;
        let log = log.unwrap_or_default();
        let (position, lost_below) = (log.position, log.lost_below);
        Ok(Response::new(ReportLogResponse { header, position, lost_below }))
    }

    async fn describe_region(
        &self,
        request: Request<DescribeRegionRequest>,
    ) -> Result<Response<DescribeRegionResponse>, Status> {
        let request = request.into_inner();
        self.check(&request.header)?;
        let (header, found) = self.answer(self.scheduler.region_by_id(request.region_id))?;
        let Some(report) = found.flatten() else {
            return Ok(Response::new(DescribeRegionResponse { header, ..Default::default() }));
        };
        let operator = self.scheduler.operator_of(request.region_id);
        let operator = operator.map(|view| self.operator(&view));
        let found = wire::describe_region_to_wire(&report, operator);
        Ok(Response::new(DescribeRegionResponse { header, ..found }))
    }

    async fn describe_store(
        &self,
        request: Request<DescribeStoreRequest>,
    ) -> Result<Response<DescribeStoreResponse>, Status> {
        let request = request.into_inner();
        self.check(&request.header)?;
        let (header, found) = self.answer(self.scheduler.describe_store(request.store_id))?;
        let found = found.as_ref().map(wire::describe_store_to_wire).unwrap_or_default();
        Ok(Response::new(DescribeStoreResponse { header, ..found }))
    }

    async fn add_operator(
        &self,
        request: Request<AddOperatorRequest>,
    ) -> Result<Response<AddOperatorResponse>, Status> {
        let request = request.into_inner();
        self.check(&request.header)?;
        let begun = wire::wanted_from_wire(&request)
            .map_err(Refusal::from)
            .and_then(|wanted| self.scheduler.add_operator(wanted));
        let (header, begun) = self.answer(begun)?;
        let operator = begun.map(|(view, instruction)| {
            instruction.into_iter().for_each(|instruction| self.tell(instruction));
            self.operator(&view)
        });
        Ok(Response::new(AddOperatorResponse { header, operator }))
    }

    async fn list_operators(
        &self,
        request: Request<ListOperatorsRequest>,
    ) -> Result<Response<ListOperatorsResponse>, Status> {
        let request = request.into_inner();
        self.check(&request.header)?;
        let mut all = self.scheduler.operators();
        if !request.with_finished {
            all.retain(|view| view.status == Progress::Running);
        }
        let operators = all.iter().map(|view| self.operator(view)).collect();
        Ok(Response::new(ListOperatorsResponse { header: self.header(), operators }))
    }
}

impl SchedulerService {
    fn operator(&self, view: &OperatorView) -> Operator {
        wire::operator_to_wire(view, self.scheduler().age(view))
    }
}
