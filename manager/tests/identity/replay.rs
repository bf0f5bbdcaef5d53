//! Somebody on the way between a machine and a manager: what was heard is said again, or cut off.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use berth_manager::identity::join;
use berth_proto::state::NodeRole;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Door, PATIENCE};

/// What machines said, one text for each connection.
type Heard = Arc<Mutex<Vec<Vec<u8>>>>;

/// Listens to what machines say to `target`. The connection of that number is cut after so many bytes from the machine.
async fn listen_in(target: SocketAddr, cut: Option<(usize, usize)>) -> (SocketAddr, Heard) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (here, heard) = (listener.local_addr().unwrap(), Heard::default());
    let said = heard.clone();
    tokio::spawn(async move {
        while let Ok((machine, _)) = listener.accept().await {
            let number = said.lock().unwrap().len();
            said.lock().unwrap().push(Vec::new());
            let limit = cut.filter(|cut| cut.0 == number).map_or(usize::MAX, |cut| cut.1);
            tokio::spawn(relay(machine, target, said.clone(), number, limit));
        }
    });
    (here, heard)
}

async fn relay(machine: TcpStream, target: SocketAddr, said: Heard, number: usize, limit: usize) {
    let manager = TcpStream::connect(target).await.unwrap();
    let (mut from_machine, mut to_machine) = machine.into_split();
    let (mut from_manager, mut to_manager) = manager.into_split();
    let back = tokio::spawn(async move { tokio::io::copy(&mut from_manager, &mut to_machine).await });
    let mut buffer = [0; 1024];
    let mut left = limit;
    while let Ok(read) = from_machine.read(&mut buffer).await {
        let taken = read.min(left);
        left -= taken;
        said.lock().unwrap()[number].extend_from_slice(&buffer[..taken]);
        if to_manager.write_all(&buffer[..taken]).await.is_err() || taken == 0 || left == 0 {
            break;
        }
    }
    drop(to_manager);
    if left == 0 {
        back.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_heard_on_the_way_is_good_for_nothing() {
    let door = Door::open().await;
    let (relay, heard) = listen_in(door.address, None).await;
    let token = door.token(NodeRole::Manager);
    join::join(&[relay.to_string()], &token).await.unwrap();
    let before = door.everything();
    let said = heard.lock().unwrap().clone();
    assert_eq!(said.len(), 2, "one to look at the roots, one to join");
    let secret = token.to_string();
    let secret = secret.rsplit('-').next().unwrap().as_bytes();
    for text in said {
        assert!(!text.windows(secret.len()).any(|part| part == secret), "the token went over the wire in plain text");
        let mut stream = TcpStream::connect(door.address).await.unwrap();
        // The manager may end it before everything is said.
        let _ = stream.write_all(&text).await;
        let _ = stream.shutdown().await;
        let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await;
        assert!(ended.is_ok(), "it is not listened to for ever");
    }
    assert_eq!(door.everything(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cut_off_on_the_way_changes_nothing() {
    let door = Door::open().await;
    let token = door.token(NodeRole::Worker);
    let (whole, heard) = listen_in(door.address, None).await;
    join::join(&[whole.to_string()], &token).await.unwrap();
    let length = heard.lock().unwrap()[1].len();
    let before = door.everything();
    for part in [1, length / 8, length / 4, length / 2] {
        let (relay, _) = listen_in(door.address, Some((1, part))).await;
        let refused = join::join(&[relay.to_string()], &token).await.unwrap_err();
        assert!(refused.to_string().contains("no manager could be asked"), "{part} of {length}: {refused}");
    }
    assert_eq!(door.everything(), before);
    // One manager that cannot be reached is no reason: the next one is asked.
    let (relay, _) = listen_in(door.address, Some((1, 1))).await;
    join::join(&[relay.to_string(), door.address.to_string()], &token).await.unwrap();
}
