//! Builds two small static binaries, the shim and the process of an encrypted link, and hands their paths to the compiler, which
//! embeds them.
//!
//! Their own cargo runs, because they have another profile (small), another C runtime (static) and features the
//! agent must not have. They are kept under the workspace's `target/berth-shim`, wherever the outer build goes,
//! so that they are built once; `BERTH_SHIM_TARGET_DIR` names another place.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    let here = PathBuf::from(var("CARGO_MANIFEST_DIR"));
    for path in ["shim/src", "shim/Cargo.toml", "../netoverlay/tunnel/src", "../netoverlay/tunnel/Cargo.toml"] {
        println!("cargo:rerun-if-changed={}", here.join(path).display());
    }
    for name in ["LIBSECCOMP_LIB_PATH", "BERTH_SHIM_TARGET_DIR"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let out = PathBuf::from(var("OUT_DIR"));
    let release = var("PROFILE") == "release";
    let base = env::var_os("BERTH_SHIM_TARGET_DIR").map_or_else(|| here.join("../target/berth-shim"), PathBuf::from);
    let base = base.join(if release { "release" } else { "debug" });
    let shim = ["--features", "bin", "--bin", "berth-shim"];
    let tunnel = ["--no-default-features", "--bin", "berth-tunnel"];
    for (variable, name, manifest, args) in [
        ("BERTH_SHIM", "berth-shim", "shim/Cargo.toml", &shim[..]),
        ("BERTH_TUNNEL", "berth-tunnel", "../netoverlay/tunnel/Cargo.toml", &tunnel[..]),
    ] {
        let binary = build(name, &here.join(manifest), args, &base, release);
        // A copy, so that two builds at once cannot see each other's half-written file.
        let embedded = out.join(name);
        if let Err(error) = std::fs::copy(&binary, &embedded) {
            panic!("copying {}: {error}", binary.display());
        }
        println!("cargo:rustc-env={variable}={}", embedded.display());
    }
}

fn build(name: &str, manifest: &Path, args: &[&str], target_dir: &Path, release: bool) -> PathBuf {
    let target = &var("TARGET");
    let mut cargo = Command::new(var("CARGO"));
    // What the outer cargo sets for its own crates does not hold for this one.
    for (name, _) in env::vars() {
        let inherited = ["CARGO_FEATURE_", "CARGO_CFG_", "CARGO_PKG_", "CARGO_PROFILE_", "CARGO_BUILD_"];
        if inherited.iter().any(|prefix| name.starts_with(prefix)) {
            cargo.env_remove(name);
        }
    }
    for name in ["CARGO_ENCODED_RUSTFLAGS", "RUSTC_WORKSPACE_WRAPPER", "RUSTC_WRAPPER", "CARGO_TARGET_DIR", "RUSTC"] {
        cargo.env_remove(name);
    }
    // A fixed address: a position-independent binary has its relocated pages dirty in every process.
    cargo.env("RUSTFLAGS", "-C target-feature=+crt-static -C relocation-model=static");
    cargo.env("LIBSECCOMP_LINK_TYPE", "static");
    if !release {
        // Optimising takes minutes and changes little but size, except where packets are sealed.
        cargo.env("CARGO_PROFILE_SHIM_LTO", "off");
        cargo.env("CARGO_PROFILE_SHIM_OPT_LEVEL", "0");
        cargo.env("CARGO_PROFILE_SHIM_CODEGEN_UNITS", "16");
        let sealing = ["boringtun", "ring", "chacha20", "poly1305", "curve25519-dalek", "blake2"];
        for name in sealing {
            cargo.args(["--config", &format!("profile.shim.package.{name}.opt-level=3")]);
        }
    }
    if env::var_os("LIBSECCOMP_LIB_PATH").is_none() {
        cargo.env("LIBSECCOMP_LIB_PATH", format!("/usr/lib/{}", multiarch(target)));
    }
    cargo.args(["build", "--profile", "shim", "--target", target]).args(args);
    cargo.arg("--manifest-path").arg(manifest);
    cargo.arg("--target-dir").arg(target_dir);
    match cargo.status() {
        Ok(status) if status.success() => target_dir.join(target).join("shim").join(name),
        Ok(status) => panic!("building {name} failed ({status}); on Debian it needs libseccomp-dev and libc6-dev"),
        Err(error) => panic!("running cargo for {name}: {error}"),
    }
}

/// Debian's name for the library directory of a Rust target.
fn multiarch(target: &str) -> String {
    let arch = target.split('-').next().unwrap_or("x86_64");
    format!("{arch}-linux-gnu")
}

fn var(name: &str) -> String {
    match env::var(name) {
        Ok(value) => value,
        Err(error) => panic!("{name}: {error}"),
    }
}
