//! Questions that are not ours, passed on to other name servers byte for byte.
//!
//! Each question leaves by a socket and with a number of its own, so an answer from elsewhere is not mistaken for the one asked
//! for.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

const PORT: u16 = 53;
/// A container's resolver gives up after 5 s: two servers are asked within that.
const PATIENCE: Duration = Duration::from_millis(2000);
const LARGEST: usize = 4096;
const SERVFAIL: u8 = 2;
const REFUSED: u8 = 5;

/// Asks the servers in turn; the first one that knows an answer wins. `None` if none answers.
pub(super) async fn forward(servers: &[IpAddr], question: &[u8], tcp: bool) -> Option<Vec<u8>> {
    let mut last = None;
    for server in servers {
        let address = SocketAddr::new(*server, PORT);
        let asked = async { if tcp { ask_tcp(address, question).await } else { ask_udp(address, question).await } };
        match timeout(PATIENCE, asked).await {
            Ok(Ok(answer)) => {
                let code = answer[3] & 0x0f;
                if code != SERVFAIL && code != REFUSED {
                    return Some(answer);
                }
                last = Some(answer);
            }
            Ok(Err(error)) => tracing::debug!(%server, %error, "name server cannot be asked"),
            Err(_) => tracing::debug!(%server, "name server does not answer"),
        }
    }
    last
}

async fn ask_udp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr = if server.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    let (id, renamed) = rename(question)?;
    socket.send(&renamed).await?;
    let mut buffer = vec![0; LARGEST];
    loop {
        let len = socket.recv(&mut buffer).await?;
        if len >= 12 && buffer[..2] == id.to_be_bytes() {
            buffer.truncate(len);
            buffer[..2].copy_from_slice(&question[..2]);
            return Ok(buffer);
        }
    }
}

async fn ask_tcp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let (id, renamed) = rename(question)?;
    let framed = [&(renamed.len() as u16).to_be_bytes()[..], &renamed].concat();
    stream.write_all(&framed).await?;
    let len = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(len)];
    stream.read_exact(&mut answer).await?;
    if answer.len() < 12 || answer[..2] != id.to_be_bytes() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    answer[..2].copy_from_slice(&question[..2]);
    Ok(answer)
}

fn rename(question: &[u8]) -> io::Result<(u16, Vec<u8>)> {
    if question.len() < 12 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let id: u16 = rand::random();
    let mut renamed = question.to_vec();
    renamed[..2].copy_from_slice(&id.to_be_bytes());
    Ok((id, renamed))
}
