//! `berth cp`: files between a task and this machine, as tar streams.

use std::path::{Path, PathBuf};

use berth_proto::pb;
use berth_proto::pb::ObjectKind;
use bytes::Bytes;
use clap::Args;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::archive::{self, ChunkWriter, Chunks};
use crate::cli::Context;
use crate::client::refusal::refused;
use crate::client::{Client, resolve};
use crate::ui::{Failure, OrFail, Outcome, terminal};

/// Messages that wait.
const QUEUE: usize = 4;

/// Flags of `cp`.
#[derive(Debug, Args)]
pub struct CpArgs {
    /// Path here, or TASK:PATH; `-` is a tar stream on stdin
    #[arg(value_name = "SOURCE")]
    source: String,
    /// Path here, or TASK:PATH; `-` is a tar stream on stdout
    #[arg(value_name = "TARGET")]
    target: String,
    /// Keep owner and group
    #[arg(short, long)]
    archive: bool,
    /// Copy what a link in SOURCE points to
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Say nothing
    #[arg(short, long)]
    quiet: bool,
}

/// One end of the copy.
#[derive(Debug, PartialEq, Eq)]
enum Place<'a> {
    /// A path on this machine, or `-`.
    Here(&'a str),
    /// A task (or service) and a path in it.
    Task(&'a str, &'a str),
}

/// `TASK:PATH`, unless it looks like a path (`./a:b`, `/a:b`).
fn place(text: &str) -> Place<'_> {
    match text.split_once(':') {
        Some((task, path)) if !task.is_empty() && !task.starts_with(['.', '/']) => Place::Task(task, path),
        _ => Place::Here(text),
    }
}

/// Copies.
pub async fn run(args: CpArgs, context: &Context) -> Outcome {
    match (place(&args.source), place(&args.target)) {
        (Place::Task(task, path), Place::Here(here)) => {
            let client = context.connect().await?;
            let task_id = find(&client, task).await?;
            copy_out(&client, &args, task_id, path, here).await?;
        }
        (Place::Here(here), Place::Task(task, path)) => {
            let client = context.connect().await?;
            let task_id = find(&client, task).await?;
            copy_in(&client, &args, here, task_id, path).await?;
        }
        (Place::Task(..), Place::Task(..)) => return Err(Failure::unsupported("copying between tasks")),
        (Place::Here(_), Place::Here(_)) => {
            return Err(Failure::usage("one of SOURCE and TARGET must be TASK:PATH").hint("use cp(1) for local files"));
        }
    }
    if !args.quiet {
        terminal::say(format!("copied {} to {}", args.source, args.target));
    }
    Ok(0)
}

async fn find(client: &Client, word: &str) -> Result<String, Failure> {
    let world = client.world(&[ObjectKind::Service, ObjectKind::Task, ObjectKind::Node]).await?;
    Ok(resolve::running_task(&world, word)?.id.to_string())
}

async fn copy_out(client: &Client, args: &CpArgs, task_id: String, path: &str, here: &str) -> Result<(), Failure> {
    let what = format!("cannot copy {} from the task", path);
    // `dir/.` means what is in the directory.
    let contents_only = path.ends_with("/.");
    let request = pb::CopyFromRequest { task_id, path: path.to_owned(), follow_link: args.follow_link };
    let answer = client.node().copy_from(request).await;
    let mut stream = answer.map_err(|status| refused(&what, &status))?.into_inner();
    if here == "-" {
        while let Some(chunk) = stream.message().await.map_err(|status| refused(&what, &status))? {
            terminal::print(&chunk.data)?;
        }
        return Ok(());
    }
    let (sender, receiver) = mpsc::channel(QUEUE);
    let (target, keep_owner) = (PathBuf::from(here), args.archive);
    let unpacking =
        tokio::task::spawn_blocking(move || archive::unpack(Chunks::new(receiver), &target, contents_only, keep_owner));
    let mut broken = None;
    loop {
        match stream.message().await {
            // A closed queue means that unpacking has failed; it says why itself.
            Ok(Some(chunk)) => {
                if sender.send(chunk.data).await.is_err() {
                    break;
                }
            }
            Ok(None) => break,
            Err(status) => {
                broken = Some(refused(&what, &status));
                break;
            }
        }
    }
    drop(sender);
    let unpacked = unpacking.await.or_fail(|| what.clone())?;
    match broken {
        Some(failure) => Err(failure),
        None => unpacked.or_fail(|| format!("cannot write {here}")),
    }
}

async fn copy_in(client: &Client, args: &CpArgs, here: &str, task_id: String, path: &str) -> Result<(), Failure> {
    let what = format!("cannot copy {here} into the task");
    // As cp(1): into the target when it is a directory, else to it under its own name.
    let is_dir = path.ends_with('/') || here == "-" || is_dir_in_task(client, &task_id, path).await?;
    let (dir, name) = if is_dir { (path.to_owned(), None) } else { split_target(path)? };
    let (sender, queue) = mpsc::channel(QUEUE);
    let target = pb::copy_to_chunk::Target { task_id, path: dir, keep_owner: args.archive };
    let first = pb::CopyToChunk { chunk: Some(pb::copy_to_chunk::Chunk::Target(target)) };
    sender.send(first).await.or_fail(|| what.clone())?;
    let (source, follow) = (here.to_owned(), args.follow_link);
    let data = move |data: Bytes| pb::CopyToChunk { chunk: Some(pb::copy_to_chunk::Chunk::Data(data)) };
    let packing = tokio::task::spawn_blocking(move || {
        let mut out = ChunkWriter::new(move |bytes| sender.blocking_send(data(bytes)).is_ok());
        match source.as_str() {
            "-" => std::io::copy(&mut std::io::stdin().lock(), &mut out).and_then(|_| std::io::Write::flush(&mut out)),
            path => archive::pack(Path::new(path), name.as_deref(), follow, out),
        }
    });
    let answer = client.node().copy_to(ReceiverStream::new(queue)).await;
    let packed = packing.await.or_fail(|| what.clone())?;
    match (answer, packed) {
        (Ok(_), Ok(())) => Ok(()),
        // The daemon's refusal closes the queue: then it says more than the error of the writer.
        (Err(status), packed) if packed.as_ref().err().is_none_or(archive::is_closed) => Err(refused(&what, &status)),
        (_, Err(error)) => Err(Failure::new(format!("cannot read {here}: {error}"))),
        (Err(status), Ok(())) => Err(refused(&what, &status)),
    }
}

/// Looks at the first entry of what copying the path out would give.
async fn is_dir_in_task(client: &Client, task_id: &str, path: &str) -> Result<bool, Failure> {
    let request = pb::CopyFromRequest { task_id: task_id.to_owned(), path: path.to_owned(), follow_link: true };
    let mut stream = match client.node().copy_from(request).await {
        Ok(answer) => answer.into_inner(),
        Err(status) if status.code() == tonic::Code::NotFound => return Ok(false),
        Err(status) => return Err(refused(&format!("cannot look at {path} in the task"), &status)),
    };
    let mut head = Vec::new();
    while head.len() < archive::HEADER {
        match stream.message().await {
            Ok(Some(chunk)) => head.extend_from_slice(&chunk.data),
            Ok(None) => break,
            Err(status) if status.code() == tonic::Code::NotFound => return Ok(false),
            Err(status) => return Err(refused(&format!("cannot look at {path} in the task"), &status)),
        }
    }
    Ok(archive::starts_with_dir(&head))
}

/// Directory and new name.
fn split_target(path: &str) -> Result<(String, Option<String>), Failure> {
    let split = path.rsplit_once('/');
    let (dir, name) = split.unwrap_or((".", path));
    if name.is_empty() {
        return Err(Failure::usage("the path in the task is empty"));
    }
    let dir = if dir.is_empty() { "/" } else { dir };
    Ok((dir.to_owned(), Some(name.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_told_from_a_path() {
        assert_eq!(place("web.1:/etc/x"), Place::Task("web.1", "/etc/x"));
        assert_eq!(place("./a:b"), Place::Here("./a:b"));
        assert_eq!(place("/a:b"), Place::Here("/a:b"));
        assert_eq!(place("-"), Place::Here("-"));
    }

    #[test]
    fn a_new_name_is_the_last_part() {
        assert_eq!(split_target("/etc/x").ok(), Some(("/etc".to_owned(), Some("x".to_owned()))));
        assert_eq!(split_target("/x").ok(), Some(("/".to_owned(), Some("x".to_owned()))));
        assert!(split_target("").is_err());
    }
}
