//! Pid 1 for containers whose command was not written to be it (`init: true`).
//!
//! Starts the command, hands on every signal, reaps whatever is orphaned, ends as the command ended.

use std::process::ExitCode;

use rustix::termios::isatty;

use crate::{command, sys};

/// Runs `arguments` and stays until it ends. The environment is this process's own.
pub fn run(arguments: &[&str]) -> ExitCode {
    let all: Vec<i32> = (1..=64)
        .filter(|signal| {
            !matches!(
                *signal,
                libc::SIGKILL
                    | libc::SIGSTOP
                    | libc::SIGSEGV
                    | libc::SIGBUS
                    | libc::SIGFPE
                    | libc::SIGILL
                    | libc::SIGABRT
                    | libc::SIGTRAP
                    | libc::SIGSYS
                    | libc::SIGTTIN
                    | libc::SIGTTOU
                    | 32
                    | 33
            )
        })
        .collect();
    let signals = match sys::signal_fd(&all) {
        Ok(fd) => fd,
        Err(error) => return fail(&format!("init: signals: {error}"), 125),
    };
    let child = match sys::fork() {
        Ok(None) => become_command(arguments),
        Ok(Some(pid)) => pid,
        Err(error) => return fail(&format!("init: fork: {error}"), 125),
    };
    let mut buffer = [0u8; size_of::<libc::signalfd_siginfo>()];
    loop {
        let mut waiting = [rustix::event::PollFd::new(&signals, rustix::event::PollFlags::IN)];
        let _ = rustix::event::poll(&mut waiting, None);
        while let Ok(size) = rustix::io::read(&signals, &mut buffer) {
            let number = i32::from_ne_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]);
            if size == buffer.len() && number != libc::SIGCHLD {
                let _ = sys::kill(child, number);
            }
        }
        while let Some((pid, status)) = sys::reap() {
            if pid == child {
                let code =
                    if libc::WIFSIGNALED(status) { 128 + libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) };
                return ExitCode::from(code as u8);
            }
        }
    }
}

fn become_command(arguments: &[&str]) -> ! {
    // A session of pid 1's keeps the terminal; its foreground group must be the command's.
    let _ = rustix::process::setpgid(None, None);
    if isatty(std::io::stdin()) {
        sys::ignore(libc::SIGTTOU);
        let _ = rustix::termios::tcsetpgrp(std::io::stdin(), rustix::process::getpgrp());
    }
    sys::reset_signals();
    let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    let environment: Vec<String> = std::env::vars_os()
        .map(|(key, value)| format!("{}={}", key.to_string_lossy(), value.to_string_lossy()))
        .collect();
    let Err(failure) = command::execute(&arguments, &environment);
    eprintln!("{}", failure.message);
    sys::exit_now(failure.command_exit_code.unwrap_or(126))
}

fn fail(message: &str, code: u8) -> ExitCode {
    eprintln!("{message}");
    ExitCode::from(code)
}
