//! Compiling a system call profile into the bytes that `seccomp(2)` takes.
//!
//! Owns the translation from OCI's JSON (config-linux.md, seccomp) through libseccomp. Runs once per
//! profile; containers only load the result.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use libcontainer::oci_spec::runtime::{Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompOperator};
use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};

/// Why a profile could not be compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// Not an OCI seccomp profile.
    #[error("{path}: not a seccomp profile: {source}")]
    Parse {
        /// Which.
        path: PathBuf,
        /// Cause.
        source: serde_json::Error,
    },
    /// libseccomp refused a rule.
    #[error("seccomp rule for {syscall}: {source}")]
    Rule {
        /// Name of the call.
        syscall: String,
        /// Cause.
        source: libseccomp::error::SeccompError,
    },
    /// libseccomp failed otherwise.
    #[error("seccomp: {0}")]
    Library(#[from] libseccomp::error::SeccompError),
    /// An action that needs a listener.
    #[error("seccomp action {0:?} is not supported")]
    Action(LinuxSeccompAction),
}

/// Reads the profile `input` and writes the filter to `output`, which appears only when complete.
pub fn compile_file(input: &Path, output: &Path) -> Result<(), CompileError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| CompileError::Io { path, source }
    };
    let text = fs::read(input).map_err(io(input))?;
    let profile: LinuxSeccomp =
        serde_json::from_slice(&text).map_err(|source| CompileError::Parse { path: input.into(), source })?;
    let filter = build(&profile)?;
    let temporary = output.with_extension(format!("tmp{}", std::process::id()));
    let file = File::create(&temporary).map_err(io(&temporary))?;
    filter.export_bpf(&file)?;
    fs::rename(&temporary, output).map_err(io(output))
}

fn build(profile: &LinuxSeccomp) -> Result<ScmpFilterContext, CompileError> {
    let default = action(profile.default_action(), profile.default_errno_ret())?;
    let mut filter = ScmpFilterContext::new(default)?;
    for arch in profile.architectures().iter().flatten() {
        if let Some(arch) = architecture(*arch) {
            filter.add_arch(arch)?;
        }
    }
    // A binary search instead of a chain of comparisons; older libraries do without.
    let _ = filter.set_ctl_optimize(2);
    for rule in profile.syscalls().iter().flatten() {
        let action = action(rule.action(), rule.errno_ret())?;
        if action == default {
            continue;
        }
        let conditions: Vec<ScmpArgCompare> = rule.args().iter().flatten().map(condition).collect();
        for name in rule.names() {
            // A call this kernel's libseccomp has never heard of cannot be made by number either.
            let Ok(call) = ScmpSyscall::from_name(name) else { continue };
            // Several comparisons of one argument are alternatives (Docker's profile uses that).
            let clash =
                conditions.len() > 1 && rule.args().iter().flatten().any(|a| same_index(rule.args(), a.index()));
            let added = if clash {
                conditions.iter().try_for_each(|one| filter.add_rule_conditional(action, call, &[*one]).map(drop))
            } else if conditions.is_empty() {
                filter.add_rule(action, call).map(drop)
            } else {
                filter.add_rule_conditional(action, call, &conditions).map(drop)
            };
            added.map_err(|source| CompileError::Rule { syscall: name.clone(), source })?;
        }
    }
    Ok(filter)
}

fn same_index(arguments: &Option<Vec<libcontainer::oci_spec::runtime::LinuxSeccompArg>>, index: usize) -> bool {
    arguments.iter().flatten().filter(|argument| argument.index() == index).count() > 1
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Result<ScmpAction, CompileError> {
    Ok(match action {
        LinuxSeccompAction::ScmpActAllow => ScmpAction::Allow,
        LinuxSeccompAction::ScmpActErrno => ScmpAction::Errno(errno.map_or(libc::EPERM, |code| code as i32)),
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => ScmpAction::KillThread,
        LinuxSeccompAction::ScmpActKillProcess => ScmpAction::KillProcess,
        LinuxSeccompAction::ScmpActTrap => ScmpAction::Trap,
        LinuxSeccompAction::ScmpActLog => ScmpAction::Log,
        LinuxSeccompAction::ScmpActTrace => ScmpAction::Trace(errno.unwrap_or(libc::EPERM as u32) as u16),
        other => return Err(CompileError::Action(other)),
    })
}

fn architecture(arch: Arch) -> Option<ScmpArch> {
    Some(match arch {
        Arch::ScmpArchNative => ScmpArch::Native,
        Arch::ScmpArchX86 => ScmpArch::X86,
        Arch::ScmpArchX86_64 => ScmpArch::X8664,
        Arch::ScmpArchX32 => ScmpArch::X32,
        Arch::ScmpArchArm => ScmpArch::Arm,
        Arch::ScmpArchAarch64 => ScmpArch::Aarch64,
        Arch::ScmpArchRiscv64 => ScmpArch::Riscv64,
        Arch::ScmpArchPpc64le => ScmpArch::Ppc64Le,
        Arch::ScmpArchS390x => ScmpArch::S390X,
        _ => return None,
    })
}

fn condition(argument: &libcontainer::oci_spec::runtime::LinuxSeccompArg) -> ScmpArgCompare {
    let operator = match argument.op() {
        LinuxSeccompOperator::ScmpCmpNe => ScmpCompareOp::NotEqual,
        LinuxSeccompOperator::ScmpCmpLt => ScmpCompareOp::Less,
        LinuxSeccompOperator::ScmpCmpLe => ScmpCompareOp::LessOrEqual,
        LinuxSeccompOperator::ScmpCmpEq => ScmpCompareOp::Equal,
        LinuxSeccompOperator::ScmpCmpGe => ScmpCompareOp::GreaterEqual,
        LinuxSeccompOperator::ScmpCmpGt => ScmpCompareOp::Greater,
        LinuxSeccompOperator::ScmpCmpMaskedEq => ScmpCompareOp::MaskedEqual(argument.value()),
    };
    let datum = match argument.op() {
        LinuxSeccompOperator::ScmpCmpMaskedEq => argument.value_two().unwrap_or(0),
        _ => argument.value(),
    };
    ScmpArgCompare::new(argument.index() as u32, operator, datum)
}
