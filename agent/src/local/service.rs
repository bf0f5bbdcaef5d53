//! The generated service trait, each call passed on to the file that does it.

use std::pin::Pin;

use berth_proto::pb;
use berth_proto::pb::node_service_server::NodeService;
use futures::Stream;
use tonic::{Request, Response, Status, Streaming};

use super::LocalService;

/// A stream of answers.
pub type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl NodeService for LocalService {
    type LogsStream = Answers<pb::LogRecord>;
    type ExecStream = Answers<pb::ExecOutput>;
    type AttachStream = Answers<pb::ExecOutput>;
    type StatsStream = Answers<pb::StatsSample>;
    type NetworkCheckStream = Answers<pb::NetworkCheckResponse>;
    type CopyFromStream = Answers<pb::CopyChunk>;
    type ImageLoadStream = Answers<pb::ImageProgress>;
    type ImageSaveStream = Answers<pb::CopyChunk>;
    type ImagePullStream = Answers<pb::ImageProgress>;

    async fn logs(&self, request: Request<pb::LogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        Ok(Response::new(super::logs::stream(self, request.into_inner())?))
    }

    async fn exec(&self, request: Request<Streaming<pb::ExecInput>>) -> Result<Response<Self::ExecStream>, Status> {
        Ok(Response::new(super::exec::exec(self, request.into_inner()).await?))
    }

    async fn attach(&self, request: Request<Streaming<pb::ExecInput>>) -> Result<Response<Self::AttachStream>, Status> {
        Ok(Response::new(super::exec::attach(self, request.into_inner()).await?))
    }

    async fn stats(&self, request: Request<pb::StatsRequest>) -> Result<Response<Self::StatsStream>, Status> {
        Ok(Response::new(super::stats::stream(self, request.into_inner())?))
    }

    async fn task_health(
        &self,
        request: Request<pb::TaskHealthRequest>,
    ) -> Result<Response<pb::TaskHealthResponse>, Status> {
        let view = self.task(&request.into_inner().task_id)?;
        Ok(Response::new(super::health::of(&view)))
    }

    async fn network_check(
        &self,
        request: Request<pb::NetworkCheckRequest>,
    ) -> Result<Response<Self::NetworkCheckStream>, Status> {
        Ok(Response::new(super::network::check(self, request.into_inner()).await?))
    }

    async fn copy_from(&self, request: Request<pb::CopyFromRequest>) -> Result<Response<Self::CopyFromStream>, Status> {
        Ok(Response::new(super::copy::copy_from(self, request.into_inner()).await?))
    }

    async fn copy_to(
        &self,
        request: Request<Streaming<pb::CopyToChunk>>,
    ) -> Result<Response<pb::CopyToResponse>, Status> {
        super::copy::copy_to(self, request.into_inner()).await?;
        Ok(Response::new(pb::CopyToResponse {}))
    }

    async fn image_list(
        &self,
        request: Request<pb::ImageListRequest>,
    ) -> Result<Response<pb::ImageListResponse>, Status> {
        Ok(Response::new(super::images::list(self, request.into_inner())))
    }

    async fn image_inspect(
        &self,
        request: Request<pb::ImageInspectRequest>,
    ) -> Result<Response<pb::ImageInspectResponse>, Status> {
        Ok(Response::new(super::images::inspect(self, &request.into_inner().image).await?))
    }

    async fn image_history(
        &self,
        request: Request<pb::ImageInspectRequest>,
    ) -> Result<Response<pb::ImageHistoryResponse>, Status> {
        Ok(Response::new(super::images::history(self, &request.into_inner().image).await?))
    }

    async fn image_load(
        &self,
        request: Request<Streaming<pb::ImageLoadChunk>>,
    ) -> Result<Response<Self::ImageLoadStream>, Status> {
        Ok(Response::new(super::images::load(self, request.into_inner())))
    }

    async fn image_save(
        &self,
        request: Request<pb::ImageSaveRequest>,
    ) -> Result<Response<Self::ImageSaveStream>, Status> {
        Ok(Response::new(super::images::save(self, request.into_inner())?))
    }

    async fn image_pull(
        &self,
        request: Request<pb::ImagePullRequest>,
    ) -> Result<Response<Self::ImagePullStream>, Status> {
        Ok(Response::new(super::images::pull(self, request.into_inner())?))
    }

    async fn image_tag(&self, request: Request<pb::ImageTagRequest>) -> Result<Response<pb::ImageTagResponse>, Status> {
        super::images::tag(self, request.into_inner()).await?;
        Ok(Response::new(pb::ImageTagResponse {}))
    }

    async fn image_remove(
        &self,
        request: Request<pb::ImageRemoveRequest>,
    ) -> Result<Response<pb::ImageRemoveResponse>, Status> {
        Ok(Response::new(super::images::remove(self, request.into_inner()).await?))
    }

    async fn image_prune(
        &self,
        request: Request<pb::ImagePruneRequest>,
    ) -> Result<Response<pb::ImageRemoveResponse>, Status> {
        Ok(Response::new(super::images::prune(self, request.into_inner()).await?))
    }

    async fn local_volume_list(
        &self,
        _: Request<pb::LocalVolumeListRequest>,
    ) -> Result<Response<pb::LocalVolumeListResponse>, Status> {
        Ok(Response::new(super::volumes::list(self).await?))
    }

    async fn local_volume_remove(
        &self,
        request: Request<pb::LocalVolumeRemoveRequest>,
    ) -> Result<Response<pb::LocalVolumeRemoveResponse>, Status> {
        Ok(Response::new(super::volumes::remove(self, request.into_inner()).await?))
    }

    async fn local_volume_prune(
        &self,
        request: Request<pb::LocalVolumePruneRequest>,
    ) -> Result<Response<pb::LocalVolumeRemoveResponse>, Status> {
        Ok(Response::new(super::volumes::prune(self, request.into_inner().all).await?))
    }
}
