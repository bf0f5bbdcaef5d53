//! Requests say where they belong: the current place in a trace goes along in gRPC metadata.

use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::{Request, Status};

use crate::TRACEPARENT;
use crate::current::current;

/// Adds `traceparent` to what is asked as part of a trace; leaves the rest alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct Traceparent;

impl Interceptor for Traceparent {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(context) = current()
            && let Ok(value) = MetadataValue::try_from(context.to_string())
        {
            request.metadata_mut().insert(TRACEPARENT, value);
        }
        Ok(request)
    }
}
