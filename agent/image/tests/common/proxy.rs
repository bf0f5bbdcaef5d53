//! A TCP proxy in front of a registry that cuts connections or flips bytes in what comes back, and
//! counts requests. It understands just enough HTTP/1.1 to see request lines.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What to do with answers to requests whose line contains `path`.
#[derive(Clone)]
pub enum Fault {
    /// Cut the connection after so many bytes of the answer, so many times.
    Cut {
        path: String,
        after: usize,
        times: usize,
    },
    /// Flip one bit in the byte at this place of the answer, always.
    Flip {
        path: String,
        at: usize,
    },
    /// Pass nothing on until released.
    Hold {
        path: String,
    },
    None,
}

pub struct Proxy {
    pub port: u16,
    state: Arc<State>,
}

struct State {
    upstream: SocketAddr,
    fault: Mutex<Fault>,
    held: AtomicUsize,
    released: AtomicBool,
    release: tokio::sync::Notify,
    lines: Mutex<Vec<String>>,
}

impl Proxy {
    pub async fn start(upstream: SocketAddr, fault: Fault) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            upstream,
            fault: Mutex::new(fault),
            held: AtomicUsize::new(0),
            released: AtomicBool::new(false),
            release: tokio::sync::Notify::new(),
            lines: Mutex::default(),
        });
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    let _ = shared.serve(client).await;
                });
            }
        });
        Proxy { port, state }
    }

    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn set(&self, fault: Fault) {
        *self.state.fault.lock().unwrap() = fault;
    }

    /// Requests whose head contains all of these words.
    pub fn count(&self, words: &[&str]) -> usize {
        let lines = self.state.lines.lock().unwrap();
        lines.iter().filter(|line| words.iter().all(|word| line.contains(word))).count()
    }

    /// Waits until so many answers are held.
    pub async fn wait_held(&self, count: usize) {
        for _ in 0..1000 {
            if self.state.held.load(Ordering::SeqCst) >= count {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("{} answers are held, not {count}", self.state.held.load(Ordering::SeqCst));
    }

    pub fn release(&self) {
        self.state.released.store(true, Ordering::SeqCst);
        self.state.release.notify_waiters();
    }
}

impl State {
    /// One request per connection: answers are asked to close it.
    async fn serve(&self, mut client: TcpStream) -> std::io::Result<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(client.read_u8().await?);
            if head.len() == 3 && head[0] == 0x16 {
                // A TLS hello: this proxy speaks plain HTTP.
                return Ok(());
            }
        }
        let text = String::from_utf8_lossy(&head).into_owned();
        self.lines.lock().unwrap().push(text.to_lowercase());
        let mut server = TcpStream::connect(self.upstream).await?;
        let request = text.replacen("\r\n", "\r\nconnection: close\r\n", 1);
        server.write_all(request.as_bytes()).await?;
        self.answer(&text, server, client).await
    }

    async fn answer(&self, request: &str, mut server: TcpStream, mut client: TcpStream) -> std::io::Result<()> {
        let fault = self.take_fault(request);
        if matches!(fault, Fault::Hold { .. }) {
            let released = self.release.notified();
            self.held.fetch_add(1, Ordering::SeqCst);
            if !self.released.load(Ordering::SeqCst) {
                released.await;
            }
        }
        let mut passed = 0;
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let n = server.read(&mut buffer).await?;
            if n == 0 {
                return client.shutdown().await;
            }
            match fault {
                Fault::Cut { after, .. } if passed + n >= after => {
                    client.write_all(&buffer[..after - passed]).await?;
                    return client.shutdown().await;
                }
                Fault::Flip { at, .. } if (passed..passed + n).contains(&at) => buffer[at - passed] ^= 1,
                _ => {}
            }
            client.write_all(&buffer[..n]).await?;
            passed += n;
        }
    }

    fn take_fault(&self, request: &str) -> Fault {
        let mut fault = self.fault.lock().unwrap();
        match &mut *fault {
            Fault::Cut { path, times, .. } if request.contains(path.as_str()) && *times > 0 => {
                *times -= 1;
                fault.clone()
            }
            Fault::Flip { path, .. } | Fault::Hold { path } if request.contains(path.as_str()) => fault.clone(),
            _ => Fault::None,
        }
    }
}
