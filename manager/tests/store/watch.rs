//! Watching: nothing is missed, nothing comes twice, nobody holds up the writer.

use std::time::Duration;

use berth_manager::store::{Hub, ObjectKind, State, WatchError};

use crate::store_support::{config, network, tx};

/// Publishes one commit that makes one config.
fn commit(hub: &Hub, state: &mut State, index: u64) {
    let mut tx = tx(1);
    tx.create(config(index.into(), &format!("c{index}"), "x"));
    let events = state.apply(index, &tx).unwrap();
    state.advance_to(index);
    hub.publish(state.clone(), events, Vec::new(), 100);
}

#[tokio::test]
async fn a_snapshot_and_the_stream_after_it_leave_no_gap() {
    let mut state = State::default();
    let hub = Hub::new(state.clone());
    let writer = hub.clone();
    let writing = tokio::task::spawn_blocking(move || (1..=2_000).for_each(|index| commit(&writer, &mut state, index)));
    let mut readers = Vec::new();
    for _ in 0..8 {
        let hub = hub.clone();
        readers.push(tokio::spawn(async move {
            let (snapshot, mut commits) = hub.subscribe();
            let mut seen = snapshot.index();
            assert_eq!(snapshot.configs().count() as u64, seen);
            while seen < 2_000 {
                let commit = commits.next().await.unwrap();
                assert_eq!(commit.index, seen + 1);
                seen = commit.index;
            }
        }));
        tokio::task::yield_now().await;
    }
    writing.await.unwrap();
    for reader in readers {
        reader.await.unwrap();
    }
}

#[tokio::test]
async fn a_reader_resumes_where_it_was_and_is_told_when_it_cannot() {
    let mut state = State::default();
    let hub = Hub::new(state.clone());
    let (_, mut slow) = hub.subscribe();
    (1..=10).for_each(|index| commit(&hub, &mut state, index));
    let mut resumed = hub.resume(4).unwrap();
    assert_eq!(resumed.next().await.unwrap().index, 5);
    assert_eq!(slow.next().await.unwrap().index, 1);
    (11..=10_000).for_each(|index| commit(&hub, &mut state, index));
    let error = slow.next().await.unwrap_err();
    let WatchError::Lagged { after: 1, oldest } = error else { panic!("{error}") };
    assert!(hub.resume(1).is_err());
    assert!(hub.resume(oldest).is_ok());
    assert_eq!(slow.resync().index(), 10_000);
    commit(&hub, &mut state, 10_001);
    assert_eq!(slow.next().await.unwrap().index, 10_001);
}

#[tokio::test]
async fn few_large_commits_do_not_stay_in_memory() {
    let mut state = State::default();
    let hub = Hub::new(state.clone());
    let (_, mut slow) = hub.subscribe();
    for index in 1..=20 {
        let mut tx = tx(1);
        tx.create(config(index.into(), &format!("c{index}"), vec![0; 1000]));
        let events = state.apply(index, &tx).unwrap();
        state.advance_to(index);
        hub.publish(state.clone(), events, Vec::new(), 1 << 20);
    }
    let error = slow.next().await.unwrap_err();
    assert!(matches!(error, WatchError::Lagged { oldest: 13, .. }), "{error}");
    // The newest is kept, however large.
    commit(&hub, &mut state, 21);
    let mut late = hub.resume(20).unwrap();
    assert_eq!(late.next().await.unwrap().index, 21);
}

#[tokio::test]
async fn a_foreign_state_makes_every_reader_resync() {
    let mut state = State::default();
    let hub = Hub::new(state.clone());
    commit(&hub, &mut state, 1);
    let (_, mut reader) = hub.subscribe();
    (2..=5).for_each(|index| {
        let mut tx = tx(1);
        tx.create(config(index, &format!("c{index}"), "x"));
        state.apply(index as u64, &tx).unwrap();
        state.advance_to(index as u64);
    });
    hub.reset(state.clone());
    assert!(matches!(reader.next().await, Err(WatchError::Lagged { .. })));
    assert_eq!(reader.resync().configs().count(), 5);
    commit(&hub, &mut state, 6);
    assert_eq!(reader.next().await.unwrap().index, 6);
}

#[tokio::test(start_paused = true)]
async fn wake_ups_are_put_together_up_to_a_ceiling() {
    let mut state = State::default();
    let hub = Hub::new(state.clone());
    let (_, mut reader) = hub.subscribe();
    let writer = hub.clone();
    let writing = tokio::spawn(async move {
        for index in 1..=100 {
            commit(&writer, &mut state, index);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        state
    });
    let only_configs = |event: &berth_manager::store::Event| event.kind() == ObjectKind::Config;
    let begun = tokio::time::Instant::now();
    let woken = reader.wake(only_configs, Duration::from_millis(50), Duration::from_millis(200)).await.unwrap();
    assert_eq!(begun.elapsed(), Duration::from_millis(200), "commits keep coming: the ceiling ends the wait");
    assert!((19..=22).contains(&woken.index()), "it saw {}", woken.index());
    let mut state = writing.await.unwrap();
    reader.resync();
    let mut tx = tx(1);
    tx.create(network(1, "n"));
    let events = state.apply(101, &tx).unwrap();
    state.advance_to(101);
    hub.publish(state.clone(), events, Vec::new(), 100);
    let wait = reader.wake(only_configs, Duration::ZERO, Duration::ZERO);
    assert!(tokio::time::timeout(Duration::from_secs(60), wait).await.is_err(), "a network is not wanted");
    hub.close();
    assert!(matches!(reader.next().await, Err(WatchError::Closed)));
}
