//! Tests of the barrier on the tests' own clock.
#![allow(clippy::unwrap_used)]

use berth_proto::id::NetworkId;
use berth_proto::object::{Attachment, Meta, Network};
use berth_proto::spec::NetworkSpec;
use futures::FutureExt;
use tokio::sync::watch;
use tonic::transport::Endpoint;

use super::*;
use crate::config::testing;
use crate::reach::ManagerAddress;
use crate::session::Link;
use crate::worker::Item;

struct Bench {
    link: watch::Sender<Option<Link>>,
    settled: Arc<Settled>,
    barrier: Arc<Barrier>,
    task: Arc<Task>,
}

fn link() -> Link {
    let manager = ManagerAddress { node: None, address: "10.0.0.1:4777".into() };
    Link { manager, channel: Endpoint::from_static("http://10.0.0.1:4777").connect_lazy() }
}

/// A node with a session and a task on a network of that driver.
fn bench(driver: NetworkDriver) -> Bench {
    let id = NetworkId::from_random(7);
    let spec = NetworkSpec {
        name: "net".parse().unwrap(),
        stack: None,
        labels: Default::default(),
        driver,
        options: Default::default(),
        internal: false,
        attachable: false,
        ipv6: false,
        ipam: Vec::new(),
    };
    let network = Network { id, meta: Meta::default(), spec: Arc::new(spec), allocation: None };
    let attachment = Attachment {
        network: id,
        addresses: vec!["10.1.0.2/24".parse().unwrap()],
        aliases: Arc::from([]),
        default_route: true,
        mac_address: None,
    };
    let task = Arc::new(Task { attachments: vec![attachment], ..testing::task() });
    let inventory = Arc::new(Inventory::default());
    inventory.write(|assigned| {
        assigned.put(Item::Network(Arc::new(network)));
        assigned.put(Item::Task(Arc::clone(&task)));
    });
    let link = watch::Sender::new(Some(link()));
    let settled = Arc::new(Settled::new(link.subscribe()));
    settled.began(10);
    let barrier = Arc::new(Barrier::new(Arc::clone(&settled), inventory));
    Bench { link, settled, barrier, task }
}

#[tokio::test(start_paused = true)]
async fn a_task_starts_when_the_others_know_its_place_or_the_limit_is_over() {
    let Bench { settled, barrier, task, link: _link } = bench(NetworkDriver::Overlay);
    barrier.begin(task.id);
    let mut start = std::pin::pin!(barrier.before_start(&task));
    settled.settled(9);
    assert_eq!(start.as_mut().now_or_never(), None);
    settled.settled(10);
    assert_eq!(start.now_or_never(), Some(()));
    // What the preparation takes counts: only the rest is waited for.
    settled.heard(11);
    barrier.begin(task.id);
    tokio::time::advance(START_LIMIT - Duration::from_secs(1)).await;
    let begun = Instant::now();
    barrier.before_start(&task).await;
    assert_eq!(begun.elapsed(), Duration::from_secs(1));
    assert_eq!(barrier.before_start(&task).now_or_never(), Some(()), "one that was not prepared here does not wait");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_took_requests_is_stopped_when_nobody_calls_it_any_more() {
    let Bench { settled, barrier, task, link } = bench(NetworkDriver::Overlay);
    settled.heard(12);
    assert_eq!(barrier.before_stop(task.id).now_or_never(), Some(false), "it took none");
    barrier.ready(task.id);
    {
        let mut stop = std::pin::pin!(barrier.before_stop(task.id));
        assert_eq!(stop.as_mut().now_or_never(), None);
        // What comes later does not put it off.
        settled.heard(20);
        settled.settled(12);
        assert_eq!(stop.now_or_never(), Some(true));
    }
    barrier.ready(task.id);
    let begun = Instant::now();
    barrier.before_stop(task.id).await;
    assert_eq!(begun.elapsed(), STOP_LIMIT, "nobody says anything");
    barrier.ready(task.id);
    {
        let mut stop = std::pin::pin!(barrier.before_stop(task.id));
        assert_eq!(stop.as_mut().now_or_never(), None);
        link.send_replace(None);
        assert_eq!(stop.now_or_never(), Some(true), "the manager is lost");
    }
    barrier.ready(task.id);
    assert_eq!(barrier.before_stop(task.id).now_or_never(), Some(true), "there is none");
}

#[tokio::test(start_paused = true)]
async fn tasks_that_no_other_node_reaches_wait_for_nobody() {
    let Bench { settled, barrier, task, link: _link } = bench(NetworkDriver::Bridge);
    settled.heard(12);
    barrier.begin(task.id);
    assert_eq!(barrier.before_start(&task).now_or_never(), Some(()));
    assert_eq!(barrier.before_stop(task.id).now_or_never(), Some(false));
    barrier.ready(task.id);
    assert_eq!(barrier.before_stop(task.id).now_or_never(), Some(true), "it took those of its own node");
}

#[tokio::test(start_paused = true)]
async fn managers_that_say_nothing_of_it_hold_nothing_up_and_another_log_begins_anew() {
    let Bench { settled, barrier, task, link: _link } = bench(NetworkDriver::Overlay);
    settled.settled(10);
    settled.began(5);
    barrier.begin(task.id);
    assert_eq!(barrier.before_start(&task).now_or_never(), None, "what was settled was of another log");
    settled.began(0);
    barrier.begin(task.id);
    assert_eq!(barrier.before_start(&task).now_or_never(), Some(()));
}
