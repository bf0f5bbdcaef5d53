//! Shows the progress events of a load or pull, and hands back how it ended.

use berth_proto::pb;
use berth_proto::pb::image_progress::layer::Phase;
use berth_proto::pb::image_progress::{Done, Event, Layer};

use crate::client::refusal::refused;
use crate::ui::Failure;
use crate::ui::progress::{Board, Line, Mark};
use crate::view::image::short_digest;

/// Follows the events to their end. `what` is "cannot …".
pub async fn follow(
    what: &str,
    events: &mut tonic::Streaming<pb::ImageProgress>,
    board: &mut Board,
) -> Result<Vec<Done>, Failure> {
    let mut ends = Vec::new();
    while let Some(progress) = events.message().await.map_err(|status| refused(what, &status))? {
        match progress.event {
            Some(Event::Layer(layer)) => {
                let name = short_digest(&layer.digest, false);
                board.set(&name, line(&layer));
            }
            Some(Event::Message(text)) => board.set("image", Line::new(Mark::Busy, text)),
            Some(Event::Done(done)) => ends.push(done),
            None => {}
        }
    }
    Ok(ends)
}

/// What the board says of a layer. Pure.
fn line(layer: &Layer) -> Line {
    let (mark, words) = match layer.phase() {
        Phase::Waiting => (Mark::Busy, "waiting"),
        Phase::Downloading => (Mark::Busy, "downloading"),
        Phase::Verifying => (Mark::Busy, "verifying"),
        Phase::Unpacking => (Mark::Busy, "unpacking"),
        Phase::Done => (Mark::Done, "done"),
        Phase::Exists => (Mark::Done, "already here"),
    };
    let amount = (mark == Mark::Busy && layer.total > 0).then_some((layer.current, layer.total));
    Line { mark, words: words.to_owned(), stage: None, amount, bytes: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_that_is_done_has_no_bar() {
        let mut layer = Layer { current: 1, total: 2, ..Default::default() };
        layer.set_phase(Phase::Downloading);
        assert_eq!(line(&layer).amount, Some((1, 2)));
        layer.set_phase(Phase::Exists);
        assert_eq!((line(&layer).amount, line(&layer).mark), (None, Mark::Done));
    }
}
