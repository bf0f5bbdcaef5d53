//! The generated service trait: each call goes to the node that has the task, or to several; what is about no task is done here.

use std::pin::Pin;

use berth_manager::api::{actor, audit};
use berth_proto::pb;
use berth_proto::pb::node_service_server::NodeService;
use futures::stream::{self, SelectAll};
use futures::{Stream, StreamExt};
use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Response, Status, Streaming};

use super::{Gateway, logs, route};

/// A stream of answers.
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The first message of a stream, and a stream that begins with it again.
async fn first<M: Clone + Send + 'static>(
    mut inbound: Streaming<M>,
) -> Result<(M, impl Stream<Item = M> + Send + 'static), Status> {
    let first = inbound.message().await?.ok_or_else(|| Status::invalid_argument("the first message is missing"))?;
    // A client whose stream broke has gone: the other side sees the end.
    let rest =
        inbound.take_while(|message| std::future::ready(message.is_ok())).filter_map(|message| async { message.ok() });
    Ok((first.clone(), stream::once(std::future::ready(first)).chain(rest)))
}

fn answers<M: Send + 'static>(stream: Streaming<M>) -> Answers<M> {
    stream.boxed()
}

fn start_of(input: &pb::ExecInput) -> Result<&pb::ExecStart, Status> {
    match &input.input {
        Some(pb::exec_input::Input::Start(start)) => Ok(start),
        _ => Err(Status::invalid_argument("the first message is `start`")),
    }
}

/// The most tasks that one call asks for statistics.
const MAX_TASKS: usize = 10_000;

#[tonic::async_trait]
impl NodeService for Gateway {
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
        let request = request.into_inner();
        if let Some(service) = &request.service_id {
            let service = service.parse().map_err(|error| Status::invalid_argument(format!("service: {error}")))?;
            return Ok(Response::new(logs::stream(self, service, request)));
        }
        match request.task_ids.as_slice() {
            [task] => Ok(self.node_of(task)?.logs(request).await?.map(answers)),
            _ => Err(Status::invalid_argument("one task, or a service")),
        }
    }

    async fn exec(&self, request: Request<Streaming<pb::ExecInput>>) -> Result<Response<Self::ExecStream>, Status> {
        // What comes from this process was recorded by what let it in.
        let from_socket = request.extensions().get::<UdsConnectInfo>().is_some();
        let actor = from_socket.then(|| actor::of(&request, self.name_of_user));
        let (first, input) = first(request.into_inner()).await?;
        let start = start_of(&first)?;
        let mut node = self.node_of(&start.task_id)?;
        if let Some(actor) = actor {
            audit::exec(&self.hub.snapshot(), &actor, start);
        }
        Ok(node.exec(input).await?.map(answers))
    }

    async fn attach(&self, request: Request<Streaming<pb::ExecInput>>) -> Result<Response<Self::AttachStream>, Status> {
        let (start, input) = first(request.into_inner()).await?;
        Ok(self.node_of(&start_of(&start)?.task_id)?.attach(input).await?.map(answers))
    }

    async fn stats(&self, request: Request<pb::StatsRequest>) -> Result<Response<Self::StatsStream>, Status> {
        let pb::StatsRequest { task_ids, interval } = request.into_inner();
        if task_ids.is_empty() {
            return self.local.stats(Request::new(pb::StatsRequest { task_ids, interval })).await;
        }
        if task_ids.len() > MAX_TASKS {
            return Err(Status::invalid_argument(format!("at most {MAX_TASKS} tasks at once")));
        }
        let mut all: SelectAll<Answers<pb::StatsSample>> = SelectAll::new();
        for (node, task_ids) in route::by_node(&self.hub.snapshot(), &task_ids, self.own)? {
            all.push(answers(self.client(node)?.stats(pb::StatsRequest { task_ids, interval }).await?.into_inner()));
        }
        Ok(Response::new(all.boxed()))
    }

    async fn task_health(
        &self,
        request: Request<pb::TaskHealthRequest>,
    ) -> Result<Response<pb::TaskHealthResponse>, Status> {
        let request = request.into_inner();
        self.node_of(&request.task_id)?.task_health(request).await
    }

    async fn network_check(
        &self,
        request: Request<pb::NetworkCheckRequest>,
    ) -> Result<Response<Self::NetworkCheckStream>, Status> {
        let pb::NetworkCheckRequest { node_id, peers, thorough } = request.into_inner();
        let node = match node_id.as_str() {
            "" => self.own,
            id => id.parse().map_err(|error| Status::invalid_argument(format!("node: {error}")))?,
        };
        let peers = route::reached(&self.hub.snapshot(), node, &peers)?;
        let request = pb::NetworkCheckRequest { node_id: node.to_string(), peers, thorough };
        Ok(self.client(node)?.network_check(request).await?.map(answers))
    }

    async fn copy_from(&self, request: Request<pb::CopyFromRequest>) -> Result<Response<Self::CopyFromStream>, Status> {
        let request = request.into_inner();
        Ok(self.node_of(&request.task_id)?.copy_from(request).await?.map(answers))
    }

    async fn copy_to(
        &self,
        request: Request<Streaming<pb::CopyToChunk>>,
    ) -> Result<Response<pb::CopyToResponse>, Status> {
        let (start, chunks) = first(request.into_inner()).await?;
        match start.chunk {
            Some(pb::copy_to_chunk::Chunk::Target(target)) => self.node_of(&target.task_id)?.copy_to(chunks).await,
            _ => Err(Status::invalid_argument("the first message is `target`")),
        }
    }

    async fn image_history(
        &self,
        request: Request<pb::ImageInspectRequest>,
    ) -> Result<Response<pb::ImageHistoryResponse>, Status> {
        self.local.image_history(request).await
    }

    async fn image_load(
        &self,
        request: Request<Streaming<pb::ImageLoadChunk>>,
    ) -> Result<Response<Self::ImageLoadStream>, Status> {
        self.local.image_load(request).await
    }

    async fn image_save(
        &self,
        request: Request<pb::ImageSaveRequest>,
    ) -> Result<Response<Self::ImageSaveStream>, Status> {
        self.local.image_save(request).await
    }

    async fn image_pull(
        &self,
        request: Request<pb::ImagePullRequest>,
    ) -> Result<Response<Self::ImagePullStream>, Status> {
        self.local.image_pull(request).await
    }

    async fn image_list(
        &self,
        request: Request<pb::ImageListRequest>,
    ) -> Result<Response<pb::ImageListResponse>, Status> {
        let pb::ImageListRequest { all, node_id } = request.into_inner();
        if node_id.is_empty() {
            return self.local.image_list(Request::new(pb::ImageListRequest { all, node_id })).await;
        }
        let node = node_id.parse().map_err(|error| Status::invalid_argument(format!("node: {error}")))?;
        self.client(node)?.image_list(pb::ImageListRequest { all, node_id: String::new() }).await
    }

    async fn image_inspect(
        &self,
        request: Request<pb::ImageInspectRequest>,
    ) -> Result<Response<pb::ImageInspectResponse>, Status> {
        self.local.image_inspect(request).await
    }

    async fn image_tag(&self, request: Request<pb::ImageTagRequest>) -> Result<Response<pb::ImageTagResponse>, Status> {
        self.local.image_tag(request).await
    }

    async fn image_remove(
        &self,
        request: Request<pb::ImageRemoveRequest>,
    ) -> Result<Response<pb::ImageRemoveResponse>, Status> {
        self.local.image_remove(request).await
    }

    async fn image_prune(
        &self,
        request: Request<pb::ImagePruneRequest>,
    ) -> Result<Response<pb::ImageRemoveResponse>, Status> {
        self.local.image_prune(request).await
    }

    async fn local_volume_list(
        &self,
        request: Request<pb::LocalVolumeListRequest>,
    ) -> Result<Response<pb::LocalVolumeListResponse>, Status> {
        self.local.local_volume_list(request).await
    }

    async fn local_volume_remove(
        &self,
        request: Request<pb::LocalVolumeRemoveRequest>,
    ) -> Result<Response<pb::LocalVolumeRemoveResponse>, Status> {
        self.local.local_volume_remove(request).await
    }

    async fn local_volume_prune(
        &self,
        request: Request<pb::LocalVolumePruneRequest>,
    ) -> Result<Response<pb::LocalVolumeRemoveResponse>, Status> {
        self.local.local_volume_prune(request).await
    }
}
