//! The command line as people see it: help of every command, flags of Docker that are refused by name.
#![allow(clippy::unwrap_used)]

use clap::{Command, CommandFactory, Parser};

use super::Cli;

#[test]
fn the_command_line_is_sound() {
    Cli::command().debug_assert();
}

/// Help of a command and of all below it, 100 columns wide.
fn help(command: &mut Command, path: &str, out: &mut Vec<(String, String)>) {
    out.push((path.to_owned(), command.render_help().to_string()));
    for sub in command.get_subcommands_mut().filter(|sub| !sub.is_hide_set()) {
        let path = format!("{path} {}", sub.get_name());
        help(sub, &path, out);
    }
}

#[test]
fn help_of_every_command() {
    let mut command = Cli::command().term_width(100);
    command.build();
    let mut all = Vec::new();
    help(&mut command, "berth", &mut all);
    for (path, text) in &all {
        assert!(!text.contains("TODO") && text.is_ascii() || text.contains('…'), "{path}: {text}");
    }
    let text: String = all.iter().map(|(path, text)| format!("$ {path} --help\n{text}\n")).collect();
    insta::assert_snapshot!("help", text);
}

#[test]
fn dockers_lines_are_read() {
    for line in [
        "service create --name web --replicas 3 -p 8080:80 --mount type=volume,source=a,target=/a nginx nginx -g x",
        "service update --image nginx:2 --env-add A=1 --env-rm B --publish-rm 80 --force --detach web",
        "service update --detach=false --update-parallelism 2 --update-delay 1s web",
        "service ps --no-trunc -q --filter desired-state=running web db",
        "service logs -f --tail 10 --since 5m --timestamps --no-task-ids --raw web",
        "logs -n 5 -ft web.1",
        "exec -it -u 0 -w / -e A=b web.1 sh -c true",
        "attach --no-stdin --sig-proxy=false web",
        "stats --no-stream --format json",
        "cp -aL web:/etc/x ./x",
        "image load -i x.tar",
        "image save -o x.tar a b",
        "image prune -af",
        "image rm -f a",
        "network create -d overlay --subnet 10.1.0.0/16 --gateway 10.1.0.1 --attachable back",
        "volume create -d local -o type=nfs data",
        "secret create key -",
        "config create --template-driver golang conf file",
        "config update conf file",
        "secret update -d --template-driver none key",
        "config -f a.yaml -f b.yaml",
        "config",
        "node update --availability drain --label-add zone=a n1",
        "apply -f - --stack s --prune -y --timeout 1m",
        "apply -c a.yaml --dry-run",
        "stack rm -y a b",
        "scale web=5 db=1",
        "events --since 5m --filter type=task --format json",
        "-H unix:///x.sock service create --host a:1.2.3.4 nginx",
        "daemon --data-dir /d --socket /s --advertise-addr 10.0.0.1 --http-addr none --init",
        "daemon --http-addr 0.0.0.0:4778 --http-cert a.pem --http-key a.key",
        "token create --role viewer --expires 24h --certificate ci.pem ci",
        "cluster ca show",
    ] {
        let words = std::iter::once("berth").chain(line.split_whitespace());
        Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn a_certificate_and_its_key_come_together() {
    for line in ["berth daemon --http-cert a.pem", "berth daemon --http-key a.key", "berth daemon --http-addr 4778"] {
        assert!(Cli::try_parse_from(line.split_whitespace()).is_err(), "{line}");
    }
}

#[test]
fn what_is_not_supported_yet_is_refused_by_name() {
    for (line, name) in [
        ("service create --isolation x nginx", "--isolation"),
        ("service create --credential-spec file://x nginx", "--credential-spec"),
        ("service update --with-registry-auth web", "--with-registry-auth"),
        ("exec --privileged web sh", "--privileged"),
        ("logs --details web", "--details"),
        ("image pull -a x", "--all-tags"),
        ("network create --ingress x", "--ingress"),
        ("secret create -d x key", "--driver"),
        ("service ls --format {{.ID}}", "Go templates"),
        ("-H https://x:1 node ls", "https://"),
    ] {
        let words = std::iter::once("berth").chain(line.split_whitespace());
        let error = Cli::try_parse_from(words).expect_err(line);
        let text = error.to_string();
        assert!(text.contains(name) && text.contains("not supported"), "{line}: {text}");
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}
