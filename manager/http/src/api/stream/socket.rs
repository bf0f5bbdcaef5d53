//! WebSockets (RFC 6455): how large messages may be, and how one is closed.

use std::time::Duration;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::http::StatusCode;
use futures::stream::SplitSink;
use futures::{SinkExt, Stream, StreamExt};
use tokio::time::{Interval, MissedTickBehavior};

use super::lease::Over;
use crate::problem::Problem;

/// Largest message of a client.
const MESSAGE: usize = 1 << 20;
/// Bytes that are written together.
const WRITTEN: usize = 64 << 10;
/// Bytes that wait for a slow client; then whoever has more waits.
const WAITING: usize = 2 << 20;
/// Between two questions whether the client is still there: a connection that is silent may be one that nobody has any more.
const PING: Duration = Duration::from_secs(20);
/// How long a client may take to be told that it is over.
const FAREWELL: Duration = Duration::from_secs(2);

/// The half that is written to.
pub type Out = SplitSink<WebSocket, Message>;

/// It ended as it should (RFC 6455 section 7.4.1).
pub const NORMAL: u16 = 1000;
/// Whoever asked may not go on.
pub const POLICY: u16 = 1008;
/// Something went wrong here.
pub const ERROR: u16 = 1011;
/// This manager stops; ask again.
pub const RESTART: u16 = 1012;

/// The connection as a WebSocket with its limits.
pub fn upgrade(asked: Result<WebSocketUpgrade, WebSocketUpgradeRejection>) -> Result<WebSocketUpgrade, Problem> {
    let refused = |error: WebSocketUpgradeRejection| {
        Problem::new(StatusCode::UPGRADE_REQUIRED, format!("this is for WebSockets: {error}"))
    };
    let upgrade = asked.map_err(refused)?;
    Ok(upgrade
        .max_message_size(MESSAGE)
        .max_frame_size(MESSAGE)
        .write_buffer_size(WRITTEN)
        .max_write_buffer_size(WAITING))
}

/// Says a last word, and why it is over. A client that does not take it is left.
pub async fn end(out: &mut Out, last: Option<Message>, code: u16, reason: &'static str) {
    let farewell = async {
        if let Some(last) = last {
            out.send(last).await?;
        }
        out.send(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await?;
        out.close().await
    };
    // One that has gone already needs no word.
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
}

/// Reads what a client says that has nothing to say, until it goes.
pub async fn gone(mut from: impl Stream<Item = Result<Message, axum::Error>> + Unpin) {
    while let Some(Ok(message)) = from.next().await {
        if matches!(message, Message::Close(_)) {
            return;
        }
    }
}

/// When to ask the client whether it is still there.
pub fn pings() -> Interval {
    let mut pings = tokio::time::interval(PING);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pings.reset();
    pings
}

/// The code that says so.
pub fn code(over: Over) -> u16 {
    match over {
        Over::Stopping => RESTART,
        Over::NotGood => POLICY,
    }
}
