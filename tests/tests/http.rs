//! HTTP on real machines: which certificate, which token, at which manager, and who did it.
#![allow(clippy::unwrap_used)]

use berth_tests::cluster::address;
use berth_tests::{Cluster, Host, Output, wait_for};

/// The machines serve HTTP to each other from now on.
fn serve_everywhere(cluster: &mut Cluster, hosts: usize) {
    for at in 0..hosts {
        let args = [cluster.host(at).daemon_args(), vec!["--http-addr".to_owned(), "0.0.0.0:4778".to_owned()]].concat();
        cluster.host_mut(at).stop_daemon();
        cluster.host_mut(at).set_daemon_args(args);
        cluster.host_mut(at).start_daemon();
        cluster.wait_ready(hosts);
    }
}

/// Asks the manager on host `to` from `host`, and ends with the status in a line of its own.
fn curl(host: &Host, to: usize, path: &str, more: &[&str]) -> Output {
    let url = format!("https://{}:4778{path}", address(to));
    let ca = host.dir().join("ca.pem");
    let common = ["-sS", "--max-time", "10", "--cacert", ca.to_str().expect("text"), "-w", "\n%{http_code}"];
    let mut command = host.command("curl");
    Output::of(command.args(common).args(more).arg(url), None)
}

fn status(output: &Output) -> &str {
    output.stdout.lines().last().unwrap_or_default()
}

/// Waits for a status: a manager that has just come, or gone, takes a moment.
#[track_caller]
fn wait_for_status(what: &str, wanted: &str, mut ask: impl FnMut() -> Output) {
    wait_for(what, || {
        let output = ask();
        if status(&output) == wanted { Ok(()) } else { Err(output) }
    });
}

#[test]
fn every_manager_answers_over_tls_to_who_has_a_token() {
    let mut cluster = Cluster::new("http", 3, 0);
    // On its own machine in the clear, and not without a token there either.
    let local = |path| {
        let url = format!("http://127.0.0.1:4778{path}");
        cluster.host(0).run("curl", &["-sS", "-o", "/dev/null", "-w", "%{http_code}", &url]).ok()
    };
    assert_eq!(
        (local("/healthz"), local("/readyz"), local("/api/v1/nodes")),
        ("200".into(), "200".into(), "401".into())
    );
    serve_everywhere(&mut cluster, 3);
    let pem = cluster.host(1).berth(&["cluster", "ca", "show"]).ok();
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----\n"), "{pem}");
    let host = cluster.host(0);
    std::fs::write(host.dir().join("ca.pem"), &pem).unwrap();
    for to in 0..3 {
        wait_for_status("a manager to be ready", "200", || curl(host, to, "/readyz", &[]));
    }
    let without_ca = host.run("curl", &["-sS", &format!("https://{}:4778/healthz", address(1))]);
    assert_ne!(without_ca.code, 0, "nobody else vouches for it: {without_ca:#?}");

    // Made at one manager, good at all.
    let token = |role: &str| cluster.host(1).berth(&["token", "create", "--role", role, &format!("a-{role}")]).ok();
    let bearer = |token: String| format!("Authorization: Bearer {}", token.trim());
    let (viewer, operator) = (bearer(token("viewer")), bearer(token("operator")));
    for to in 0..3 {
        wait_for_status("the token to be known", "200", || curl(host, to, "/api/v1/nodes", &["-H", &viewer]));
        assert_eq!(status(&curl(host, to, "/api/v1/nodes", &[])), "401");
        let pause = format!("/api/v1/nodes/{}/pause", cluster.host(2).hostname());
        assert_eq!(status(&curl(host, to, &pause, &["-X", "POST", "-H", &viewer])), "403");
    }
    // What is done is recorded under the token's name.
    let pause = format!("/api/v1/nodes/{}/pause", cluster.host(2).hostname());
    let paused = curl(host, 2, &pause, &["-X", "POST", "-H", &operator]);
    assert!(status(&paused).starts_with('2'), "{paused:#?}");
    wait_for("the change to be told with who made it", || {
        // Everything up to now is told before the end comes.
        let end = host.run("date", &["-u", "-d", "+2 seconds", "+%Y-%m-%dT%H:%M:%SZ"]).ok();
        let told = host.berth(&["events", "--since", "10m", "--until", end.trim(), "--filter", "type=node"]).stdout;
        if told.contains("by token a-operator") { Ok(()) } else { Err(told) }
    });
    cluster.host(2).berth(&["token", "rm", "a-viewer"]).ok();
    for to in 0..3 {
        wait_for_status("the token to be refused", "401", || curl(host, to, "/api/v1/nodes", &["-H", &viewer]));
    }

    // A manager that becomes a worker serves what a worker does, with a certificate that answers to no address.
    cluster.host(0).berth(&["node", "demote", cluster.host(2).hostname()]).ok();
    let connect = format!("node.berth:4778:{}:4778", address(2));
    let ca = host.dir().join("ca.pem").display().to_string();
    let worker = |path: &str| {
        let url = format!("https://node.berth:4778{path}");
        let args = ["-sS", "--cacert", &ca, "--connect-to", &connect, "-H", &operator, "-w", "\n%{http_code}", &url];
        Output::of(host.command("curl").args(args), None)
    };
    wait_for_status("the worker to be ready", "200", || worker("/readyz"));
    wait_for_status("the worker to have no API", "404", || worker("/api/v1/nodes"));
    assert_eq!(status(&curl(host, 1, "/api/v1/nodes", &["-H", &operator])), "200");
}

#[test]
fn a_client_certificate_lets_in_and_a_taken_port_says_what_to_do() {
    let mut host = Host::start("httpcert");
    let at = |name: &str| host.dir().join(name).to_str().unwrap().to_owned();
    for (name, subject, names) in [("server", "/CN=server", "IP:127.0.0.1"), ("client", "/CN=ci", "DNS:ci")] {
        let (key, cert) = (at(&format!("{name}.key")), at(&format!("{name}.pem")));
        let names = format!("subjectAltName={names}");
        let curve = "ec_paramgen_curve:P-256";
        let new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", curve, "-nodes", "-days", "2"];
        let rest = ["-subj", subject, "-addext", &names, "-keyout", &key, "-out", &cert];
        host.run("openssl", &[&new[..], &rest[..]].concat()).ok();
    }
    let flags = ["--http-cert".to_owned(), at("server.pem"), "--http-key".to_owned(), at("server.key")];
    host.berth(&["token", "create", "--role", "viewer", "--certificate", &at("client.pem"), "ci"]).ok();
    assert!(
        host.berth(&["token", "create", "--role", "viewer", "--certificate", &at("client.key"), "x"])
            .fails(1)
            .contains("no certificate")
    );
    host.stop_daemon();
    host.set_daemon_args(flags.to_vec());
    host.start_daemon();
    let ask = |more: &[&str]| {
        let (ca, url) = (host.dir().join("server.pem"), "https://127.0.0.1:4778/api/v1/nodes");
        let args = ["-sS", "-w", "\n%{http_code}", "--cacert", ca.to_str().unwrap(), url];
        host.run("curl", &[&args[..], more].concat())
    };
    let (cert, key) = (host.dir().join("client.pem"), host.dir().join("client.key"));
    let shown = ["--cert", cert.to_str().unwrap(), "--key", key.to_str().unwrap()];
    wait_for_status("the certificate to let in", "200", || ask(&shown));
    assert_eq!(status(&ask(&[])), "401");

    let second = host.dir().join("second");
    let second = ["daemon", "--data-dir", second.to_str().unwrap(), "--socket", "/run/second.sock"];
    let more = ["--advertise-addr", "127.0.0.1:4799", "--data-path", "tunnel"];
    let said = host.berth(&[&second[..], &more[..]].concat()).fails(1);
    assert!(said.contains("127.0.0.1:4778") && said.contains("--http-addr"), "{said}");
}
