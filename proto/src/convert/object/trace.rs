//! Places in traces.

use crate::convert::ConvertError;
use crate::pb;
use crate::trace::{SpanId, TraceContext, TraceId};

impl From<&TraceContext> for pb::TraceContext {
    fn from(context: &TraceContext) -> Self {
        Self {
            trace_id: context.trace.bytes().to_vec().into(),
            span_id: context.span.bytes().to_vec().into(),
            flags: context.flags.into(),
        }
    }
}

impl TryFrom<pb::TraceContext> for TraceContext {
    type Error = ConvertError;

    fn try_from(message: pb::TraceContext) -> Result<Self, ConvertError> {
        let trace = message.trace_id.as_ref().try_into().ok().and_then(TraceId::new);
        let span = message.span_id.as_ref().try_into().ok().and_then(SpanId::new);
        Ok(Self {
            trace: trace.ok_or_else(|| ConvertError::new("trace_id", "is not 16 bytes, or all zeros"))?,
            span: span.ok_or_else(|| ConvertError::new("span_id", "is not 8 bytes, or all zeros"))?,
            flags: message.flags.try_into().map_err(|_| ConvertError::new("flags", "are more than a byte"))?,
        })
    }
}
