//! `domain -> pb -> bytes -> pb -> domain` is the identity, and hostile messages are refused without a panic.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::strategy::{Strategy, Union};
use prost::Message;

use crate::content::ContentDigest;
use crate::id::Id;
use crate::object::*;
use crate::pb;
use crate::spec::Strategy as Placing;
use crate::spec::*;
use crate::state::*;
use crate::time::Timestamp;
use crate::trace::{SpanId, TraceContext, TraceId};

fn text() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9 _./=:-]{0,12}"
}

fn name<T: std::str::FromStr<Err: std::fmt::Debug> + std::fmt::Debug>() -> impl Strategy<Value = T> {
    "[a-z][a-z0-9_-]{0,12}".prop_map(|text| text.parse().expect("well formed"))
}

fn pairs() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map(text(), text(), 0..3)
}

fn id<K: 'static>() -> impl Strategy<Value = Id<K>> {
    any::<u128>().prop_map(Id::from_random)
}

fn duration() -> impl Strategy<Value = Duration> {
    any::<u64>().prop_map(Duration::from_nanos)
}

fn time() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(Timestamp)
}

fn one_of<T: Clone + std::fmt::Debug + 'static>(values: &[T]) -> impl Strategy<Value = T> + use<T> {
    Union::new(values.iter().cloned().map(Just))
}

fn ip() -> impl Strategy<Value = IpAddr> {
    any::<IpAddr>()
}

fn subnet() -> impl Strategy<Value = ipnet::IpNet> {
    (any::<IpAddr>(), 0u8..=32).prop_map(|(ip, prefix)| ipnet::IpNet::new(ip, prefix).expect("prefix fits"))
}

fn mount() -> impl Strategy<Value = Mount> {
    let propagation = one_of(&[Propagation::Rprivate, Propagation::Private, Propagation::Rshared, Propagation::Slave]);
    let bind = (text(), any::<bool>(), propagation, any::<bool>()).prop_map(
        |(source, create_host_path, propagation, non_recursive)| {
            MountKind::Bind(BindMount { source, create_host_path, propagation, non_recursive })
        },
    );
    let volume = (option::of(name()), any::<bool>(), vec(option::of(text()), 3), pairs(), pairs()).prop_map(
        |(name, no_copy, texts, driver_options, labels)| {
            let [name_template, subpath, driver] = <[_; 3]>::try_from(texts).expect("three");
            let volume = VolumeMount { name, name_template, no_copy, subpath, driver, driver_options, labels };
            MountKind::Volume(volume)
        },
    );
    let tmpfs = (option::of(any::<u64>()), option::of(any::<u32>()), vec(text(), 0..3))
        .prop_map(|(size, mode, options)| MountKind::Tmpfs(TmpfsMount { size, mode, options }));
    let image =
        (text(), option::of(text())).prop_map(|(source, subpath)| MountKind::Image(ImageMount { source, subpath }));
    (text(), any::<bool>(), prop_oneof![bind, volume, tmpfs, image]).prop_map(|(target, read_only, kind)| Mount {
        target,
        read_only,
        kind,
    })
}

fn healthcheck() -> impl Strategy<Value = Healthcheck> {
    let test = prop_oneof![
        Just(HealthTest::None),
        vec(text(), 0..3).prop_map(HealthTest::Exec),
        text().prop_map(HealthTest::Shell),
    ];
    (option::of(test), duration(), duration(), any::<u32>(), duration(), duration()).prop_map(
        |(test, interval, timeout, retries, start_period, start_interval)| Healthcheck {
            test,
            interval,
            timeout,
            retries,
            start_period,
            start_interval,
        },
    )
}

fn file() -> impl Strategy<Value = FileMount> {
    (text(), text(), text(), text(), any::<u32>(), option::of(digest()))
        .prop_map(|(source, target, uid, gid, mode, digest)| FileMount { source, target, uid, gid, mode, digest })
}

fn digest() -> impl Strategy<Value = ContentDigest> {
    any::<[u8; 32]>().prop_map(ContentDigest)
}

fn template_driver() -> impl Strategy<Value = Option<TemplateDriver>> {
    option::of(Just(TemplateDriver::Golang))
}

fn earlier() -> impl Strategy<Value = Vec<Content>> {
    let content = (digest(), template_driver(), vec(any::<u8>(), 0..40));
    let content = content.prop_map(|(digest, template_driver, data)| Content {
        digest,
        template_driver,
        data: SecretBytes(data.into()),
    });
    vec(content, 0..3)
}

fn container() -> impl Strategy<Value = ContainerSpec> {
    let seccomp =
        prop_oneof![Just(SeccompMode::Default), Just(SeccompMode::Unconfined), text().prop_map(SeccompMode::Custom),];
    let words = (text(), option::of(vec(text(), 0..3)), option::of(vec(text(), 0..3)), pairs(), option::of(text()));
    let files = (vec(mount(), 0..4), vec(file(), 0..2), vec(file(), 0..2), option::of(healthcheck()), duration());
    let flags = any::<[bool; 7]>();
    let isolation = (
        seccomp,
        btree_map(text(), (any::<i64>(), any::<i64>()).prop_map(|(soft, hard)| Ulimit { soft, hard }), 0..3),
        vec((text(), text(), text()), 0..3),
        vec((text(), text()), 0..3),
        vec(ip(), 0..3),
        option::of(any::<u64>()),
        option::of(any::<i32>()),
        one_of(&[PullPolicy::Always, PullPolicy::Never, PullPolicy::IfNotPresent]),
        one_of(&[NamespaceMode::Private, NamespaceMode::Host]),
        vec(text(), 0..3),
    );
    (words, files, flags, isolation).prop_map(|(words, files, flags, isolation)| ContainerSpec {
        image: words.0,
        entrypoint: words.1,
        command: words.2,
        env: words.3.clone(),
        labels: words.3.clone(),
        sysctls: words.3,
        hostname: words.4.clone(),
        domainname: words.4.clone(),
        user: words.4.clone(),
        workdir: words.4.clone(),
        stop_signal: words.4,
        mounts: files.0,
        configs: files.1,
        secrets: files.2,
        healthcheck: files.3,
        stop_grace_period: files.4,
        init: flags[0],
        tty: flags[1],
        stdin_open: flags[2],
        read_only: flags[3],
        privileged: flags[4],
        no_new_privileges: flags[5],
        seccomp: isolation.0,
        ulimits: isolation.1,
        devices: isolation
            .2
            .into_iter()
            .map(|(source, target, permissions)| DeviceMapping { source, target, permissions })
            .collect(),
        extra_hosts: isolation.3.into_iter().map(|(host, address)| HostEntry { host, address }).collect(),
        dns: DnsSpec { nameservers: isolation.4, search: isolation.9.clone(), options: isolation.9.clone() },
        shm_size: isolation.5,
        oom_score_adj: isolation.6,
        pull_policy: isolation.7,
        pid_mode: isolation.8,
        ipc_mode: isolation.8,
        uts_mode: isolation.8,
        cgroupns_mode: isolation.8,
        capabilities: CapabilitySpec { add: isolation.9.clone(), drop: isolation.9.clone() },
        groups: isolation.9.clone(),
        device_cgroup_rules: isolation.9,
    })
}

fn requirements() -> impl Strategy<Value = Requirements> {
    let number = || option::of(any::<u64>());
    let limits = (number(), number(), option::of(any::<i64>()), option::of(any::<i64>()), number(), option::of(text()))
        .prop_map(|(nano_cpus, memory, memory_swap, pids, cpu_shares, cpuset)| Limits {
            nano_cpus,
            memory,
            memory_swap,
            pids,
            cpu_shares,
            cpuset,
        });
    let device = (vec(text(), 0..2), option::of(text()), number(), vec(text(), 0..2), pairs()).prop_map(
        |(capabilities, driver, count, device_ids, options)| DeviceRequest {
            capabilities,
            driver,
            count,
            device_ids,
            options,
        },
    );
    let reservations = (any::<u64>(), any::<u64>(), btree_map(text(), any::<u64>(), 0..3), vec(device, 0..2))
        .prop_map(|(nano_cpus, memory, generic, devices)| Reservations { nano_cpus, memory, generic, devices });
    (limits, reservations).prop_map(|(limits, reservations)| Requirements { limits, reservations })
}

fn update() -> impl Strategy<Value = UpdateConfig> {
    let action = one_of(&[FailureAction::Pause, FailureAction::Continue, FailureAction::Rollback]);
    let order = one_of(&[UpdateOrder::StopFirst, UpdateOrder::StartFirst]);
    (any::<u64>(), duration(), action, duration(), 0u32..=1_000_000, order).prop_map(
        |(parallelism, delay, failure_action, monitor, ratio, order)| UpdateConfig {
            parallelism,
            delay,
            failure_action,
            monitor,
            max_failure_ratio: Ratio::from_millionths(ratio).expect("in range"),
            order,
        },
    )
}

fn port() -> impl Strategy<Value = PortConfig> {
    let protocol = one_of(&[Protocol::Tcp, Protocol::Udp]);
    let mode = one_of(&[PublishMode::Ingress, PublishMode::Host]);
    (option::of(text()), protocol, any::<u16>(), option::of(any::<u16>()), mode, option::of(ip())).prop_map(
        |(name, protocol, target, published, mode, host_ip)| PortConfig {
            name,
            protocol,
            target,
            published,
            mode,
            host_ip,
        },
    )
}

fn task_spec() -> impl Strategy<Value = TaskSpec> {
    let condition = one_of(&[RestartCondition::None, RestartCondition::OnFailure, RestartCondition::Any]);
    let restart = (condition, duration(), option::of(any::<u64>()), duration())
        .prop_map(|(condition, delay, max_attempts, window)| RestartPolicy { condition, delay, max_attempts, window });
    let constraint =
        one_of(&["node.role==manager", "node.labels.zone!=a b"]).prop_map(|text| text.parse().expect("ok"));
    let with = prop_oneof![
        name().prop_map(Selector::Service),
        (text(), text()).prop_map(|(key, value)| Selector::Label { key, value }),
    ];
    let relation = one_of(&[Relation::Together, Relation::Apart]);
    let scope = option::of(text()).prop_map(|attribute| attribute.map_or(Scope::Node, Scope::Attribute));
    let affinity = (relation, with, scope, any::<bool>()).prop_map(|(relation, with, scope, required)| Affinity {
        relation,
        with,
        scope,
        required,
    });
    let ranking = (option::of(one_of(&[Placing::Pack, Placing::Spread])), vec(affinity, 0..3), any::<bool>());
    let lists = (vec(constraint, 0..3), vec(text(), 0..3), vec((text(), text()), 0..3));
    let placement = (lists, any::<u64>(), ranking).prop_map(
        |((constraints, spread, platforms), max_replicas_per_node, (strategy, affinity, gang))| Placement {
            constraints,
            preferences: spread.into_iter().map(Preference::Spread).collect(),
            max_replicas_per_node,
            platforms: platforms.into_iter().map(|(os, architecture)| Platform { os, architecture }).collect(),
            strategy,
            affinity,
            gang,
        },
    );
    let network = (name(), vec(text(), 0..3), option::of(ip()), any::<(i32, i32)>(), option::of(text())).prop_map(
        |(network, aliases, ip, (priority, gateway_priority), mac_address)| NetworkAttachmentSpec {
            network,
            aliases,
            ipv4: ip,
            ipv6: ip,
            priority,
            gateway_priority,
            mac_address,
        },
    );
    let log = (text(), pairs()).prop_map(|(driver, options)| LogSpec { driver, options });
    (container().boxed(), requirements().boxed(), restart, placement, vec(network, 0..3), log, any::<u64>()).prop_map(
        |(container, resources, restart, placement, networks, log, force_update)| TaskSpec {
            container,
            resources,
            restart,
            placement,
            networks,
            log,
            force_update,
        },
    )
}

fn service_spec() -> impl Strategy<Value = ServiceSpec> {
    let mode = prop_oneof![
        any::<u64>().prop_map(|replicas| ServiceMode::Replicated { replicas }),
        Just(ServiceMode::Global),
        any::<(u64, u64)>().prop_map(|(max_concurrent, total_completions)| ServiceMode::ReplicatedJob {
            max_concurrent,
            total_completions
        }),
        Just(ServiceMode::GlobalJob),
    ];
    let condition = one_of(&[
        DependencyCondition::ServiceStarted,
        DependencyCondition::ServiceHealthy,
        DependencyCondition::ServiceCompletedSuccessfully,
    ]);
    let depends_on = (condition, any::<(bool, bool)>()).prop_map(|(condition, (restart, required))| DependsOn {
        condition,
        restart,
        required,
    });
    let endpoint = (one_of(&[EndpointMode::Vip, EndpointMode::Dnsrr]), vec(port(), 0..3))
        .prop_map(|(mode, ports)| EndpointSpec { mode, ports });
    let depends_on = btree_map(name(), depends_on, 0..3);
    let head = (name(), option::of(name()), pairs(), any::<i32>(), depends_on, option::of(autoscale().boxed()));
    (head, task_spec().boxed(), mode, update(), update(), endpoint).prop_map(
        |((name, stack, labels, priority, depends_on, autoscale), task, mode, update, rollback, endpoint)| {
            ServiceSpec { name, stack, labels, task, mode, update, rollback, endpoint, priority, autoscale, depends_on }
        },
    )
}

fn autoscale() -> impl Strategy<Value = Autoscale> {
    let time = || (0u32..=24 * 60).prop_map(|minutes| TimeOfDay::from_minutes(minutes).expect("within a day"));
    let number = || option::of(any::<u64>());
    let pace = || (duration(), duration()).prop_map(|(up, down)| Pace { up, down });
    let window = (vec(one_of(&Weekday::ALL), 0..4), time(), time(), option::of(text()), number(), number())
        .prop_map(|(days, from, to, timezone, min, max)| Window { days, from, to, timezone, min, max });
    let requests = (any::<u64>(), text(), any::<u16>(), text())
        .prop_map(|(target, metric, port, path)| RequestTarget { target, metric, port, path });
    let targets = (option::of(any::<u32>()), option::of(any::<u32>()), option::of(requests));
    (any::<(u64, u64)>(), targets, 0u32..=1_000_000, pace(), pace(), vec(window, 0..3)).prop_map(
        |((min, max), (cpu, memory, requests), tolerance, stabilization, cooldown, schedule)| Autoscale {
            min,
            max,
            cpu,
            memory,
            requests,
            tolerance: Ratio::from_millionths(tolerance).expect("in range"),
            stabilization,
            cooldown,
            schedule,
        },
    )
}

fn meta() -> impl Strategy<Value = Meta> {
    (any::<u64>(), time(), time()).prop_map(|(version, created_at, updated_at)| Meta {
        version,
        created_at,
        updated_at,
    })
}

fn traced() -> impl Strategy<Value = TraceContext> {
    any::<(u128, u64, u8)>().prop_filter_map("zeros are no id", |(trace, span, flags)| {
        let (trace, span) = (TraceId::new(trace.to_be_bytes())?, SpanId::new(span.to_be_bytes())?);
        Some(TraceContext { trace, span, flags })
    })
}

fn service() -> impl Strategy<Value = Object> {
    let spec = || service_spec().boxed().prop_map(Arc::new);
    let revision = move || (any::<u64>(), spec()).prop_map(|(version, spec)| SpecRevision { version, spec });
    let vip = (id(), subnet()).prop_map(|(network, address)| VirtualIp { network, address });
    let endpoint = (vec(port(), 0..3), vec(vip, 0..3)).prop_map(|(ports, virtual_ips)| Endpoint { ports, virtual_ips });
    let progress = one_of(&[UpdateProgress::Updating, UpdateProgress::Paused, UpdateProgress::RollbackCompleted]);
    let update = (progress, time(), option::of(time()), text(), any::<u64>()).prop_map(
        |(progress, started_at, completed_at, message, target)| UpdateStatus {
            progress,
            started_at,
            completed_at,
            message,
            target,
        },
    );
    let job = (any::<u64>(), time()).prop_map(|(iteration, last_execution)| JobStatus { iteration, last_execution });
    let autoscaled =
        (any::<u64>(), time(), text()).prop_map(|(replicas, since, reason)| Autoscaled { replicas, since, reason });
    let head = (id(), meta(), spec(), any::<u64>(), any::<bool>(), option::of(autoscaled), option::of(traced()));
    let rest =
        (option::of(revision()), vec(revision(), 0..2), option::of(endpoint), option::of(update), option::of(job));
    (head, rest).prop_map(
        |(
            (id, meta, spec, spec_version, pending_delete, autoscaled, traced),
            (previous, history, endpoint, update, job),
        )| {
            Service {
                id,
                meta,
                spec,
                spec_version,
                previous,
                history,
                endpoint,
                update,
                job,
                pending_delete,
                autoscaled,
                traced,
            }
            .into()
        },
    )
}

fn task() -> impl Strategy<Value = Object> {
    let states: Vec<TaskState> = (0..14).map(|n| pb::TaskState::try_from(n).expect("known").into()).collect();
    let health = one_of(&[None, Some(HealthState::Starting), Some(HealthState::Healthy), Some(HealthState::Unhealthy)]);
    let container = (any::<(i32, Option<i32>, bool)>(), option::of(time()), text()).prop_map(
        |((pid, exit_code, oom_killed), at, image_digest)| ContainerStatus {
            pid,
            exit_code,
            oom_killed,
            started_at: at,
            finished_at: at,
            image_digest,
        },
    );
    let status = (one_of(&states), time(), text(), text(), health, option::of(container)).prop_map(
        |(state, at, message, error, health, container)| TaskStatus { state, at, message, error, health, container },
    );
    let attachment = (id(), vec(subnet(), 0..3), vec(text(), 0..3), any::<bool>(), option::of(text())).prop_map(
        |(network, addresses, aliases, default_route, mac_address)| Attachment {
            network,
            addresses,
            aliases: aliases.into(),
            default_route,
            mac_address,
        },
    );
    let restarts = (any::<(u64, u32)>(), vec(time(), 0..3), option::of(time())).prop_map(
        |((total, failures_in_row), recent, start_at)| RestartRecord { total, recent, failures_in_row, start_at },
    );
    let slot = prop_oneof![any::<u64>().prop_map(Slot::Replica), id().prop_map(Slot::Node)];
    let desired = one_of(&[
        DesiredState::Ready,
        DesiredState::Running,
        DesiredState::Complete,
        DesiredState::Shutdown,
        DesiredState::Remove,
    ]);
    let head =
        (id(), meta(), id(), name(), any::<u64>(), slot, option::of(id()), option::of(id()), option::of(traced()));
    let rest = (desired, status, vec(attachment, 0..3), vec(port(), 0..3), restarts, option::of(any::<u64>()));
    (head, rest).prop_map(|(head, rest)| {
        Task {
            id: head.0,
            meta: head.1,
            service: head.2,
            service_name: head.3,
            spec_version: head.4,
            slot: head.5,
            node: head.6,
            desired: rest.0,
            status: rest.1,
            attachments: rest.2,
            host_ports: rest.3,
            restarts: rest.4,
            job_iteration: rest.5,
            nominated: head.7,
            traced: head.8,
        }
        .into()
    })
}

fn node() -> impl Strategy<Value = Object> {
    let availability = one_of(&[Availability::Active, Availability::Pause, Availability::Drain]);
    let spec = (one_of(&[NodeRole::Worker, NodeRole::Manager]), availability, pairs())
        .prop_map(|(role, availability, labels)| NodeSpec { role, availability, labels });
    let resources = (any::<(u64, u64)>(), btree_map(text(), any::<u64>(), 0..3))
        .prop_map(|((nano_cpus, memory), generic)| NodeResources { nano_cpus, memory, generic });
    let key = (any::<u64>(), any::<[u8; 32]>(), 1..u16::MAX).prop_map(|(generation, public_key, port)| TunnelKey {
        generation,
        public_key,
        port,
    });
    let holds = (vec(text(), 0..3), vec(subnet(), 0..3), vec(text(), 0..3), vec(key, 0..3));
    let description = (text(), (text(), text()), resources, text(), pairs(), holds).prop_map(
        |(
            hostname,
            (os, architecture),
            resources,
            engine_version,
            engine_labels,
            (capabilities, routes, images, tunnel_keys),
        )| {
            NodeDescription {
                hostname,
                platform: Platform { os, architecture },
                resources,
                engine_version,
                engine_labels,
                capabilities: capabilities.into_iter().collect(),
                routes: routes.into_iter().collect(),
                images: images.into_iter().collect(),
                tunnel_keys,
            }
        },
    );
    let status = (one_of(&[NodeState::Unknown, NodeState::Down, NodeState::Ready]), text(), text(), time(), text())
        .prop_map(|(state, message, address, at, root)| NodeStatus { state, message, address, at, root });
    let manager = (any::<(u64, bool, bool)>(), text())
        .prop_map(|((raft_id, leader, reachable), address)| ManagerStatus { raft_id, address, leader, reachable });
    (id(), meta(), spec, option::of(description), status, option::of(manager), vec(subnet(), 0..3)).prop_map(
        |(id, meta, spec, description, status, manager, ingress)| {
            Node { id, meta, spec, description, status, manager, ingress }.into()
        },
    )
}

fn resource() -> impl Strategy<Value = Object> {
    let driver = one_of(&[NetworkDriver::Overlay, NetworkDriver::Bridge, NetworkDriver::Host, NetworkDriver::Macvlan]);
    let pool = (subnet(), option::of(subnet()), option::of(ip()), btree_map(text(), ip(), 0..3))
        .prop_map(|(subnet, ip_range, gateway, aux_addresses)| IpamPool { subnet, ip_range, gateway, aux_addresses });
    let spec = (name(), option::of(name()), pairs(), driver, pairs(), any::<[bool; 3]>(), vec(pool, 0..3)).prop_map(
        |(name, stack, labels, driver, options, [internal, attachable, ipv6], ipam)| NetworkSpec {
            name,
            stack,
            labels,
            driver,
            options,
            internal,
            attachable,
            ipv6,
            ipam,
        },
    );
    let allocation = (vec((subnet(), ip()), 0..3), any::<u32>(), any::<bool>())
        .prop_map(|(pools, vni, encrypted)| NetworkAllocation { pools, vni, encrypted });
    let network = (id(), meta(), spec, option::of(allocation))
        .prop_map(|(id, meta, spec, allocation)| Network { id, meta, spec: Arc::new(spec), allocation }.into());
    let volume = (id(), meta(), name(), option::of(name()), pairs(), text()).prop_map(
        |(id, meta, name, stack, labels, driver)| {
            let spec = VolumeSpec { name, stack, options: labels.clone(), labels, driver };
            Volume { id, meta, spec: Arc::new(spec) }.into()
        },
    );
    let data = || vec(any::<u8>(), 0..40);
    let file = || (meta(), pairs(), data(), template_driver(), digest(), earlier());
    let config =
        (id(), name(), file()).prop_map(|(id, name, (meta, labels, data, template_driver, digest, earlier))| {
            let spec = ConfigSpec { name, stack: None, labels, template_driver, data: data.into() };
            Config { id, meta, spec: Arc::new(spec), digest, earlier }.into()
        });
    let secret = (id(), name(), file(), data()).prop_map(
        |(id, name, (meta, labels, data, template_driver, digest, earlier), key)| {
            let spec = SecretSpec { name, stack: None, labels, template_driver, data: SecretBytes(data.into()) };
            Secret { id, meta, spec: Arc::new(spec), digest, earlier, key: SecretBytes(key.into()) }.into()
        },
    );
    let flags = (any::<bool>(), one_of(&[Placing::Pack, Placing::Spread]));
    let spec = (text(), any::<u32>(), duration(), duration(), flags).prop_map(
        |(name, task_history_limit, heartbeat_period, certificate_lifetime, (encrypt_networks, strategy))| {
            ClusterSpec { name, task_history_limit, heartbeat_period, certificate_lifetime, encrypt_networks, strategy }
        },
    );
    let cluster = (id(), meta(), spec, option::of(authority()), vec(api_token(), 0..3))
        .prop_map(|(id, meta, spec, authority, tokens)| Cluster { id, meta, spec, authority, tokens }.into());
    prop_oneof![network, volume, config, secret, cluster]
}

fn api_token() -> impl Strategy<Value = ApiToken> {
    let role = one_of(&[ApiRole::Viewer, ApiRole::Operator, ApiRole::Admin]);
    (name(), role, any::<[u8; 32]>(), time(), option::of(time()), text(), any::<bool>()).prop_map(
        |(name, role, digest, created_at, expires_at, created_by, certificate)| ApiToken {
            name,
            role,
            digest,
            created_at,
            expires_at,
            created_by,
            certificate,
        },
    )
}

fn authority() -> impl Strategy<Value = Authority> {
    let bytes = || vec(any::<u8>(), 1..20).prop_map(bytes::Bytes::from);
    let root = move || (bytes(), bytes()).prop_map(|(certificate, key)| Root { certificate, key: SecretBytes(key) });
    let secret =
        || ("[a-z0-9]{1,8}", option::of(time())).prop_map(|(secret, expires_at)| JoinSecret { secret, expires_at });
    (root(), option::of(root()), option::of(bytes()), vec(bytes(), 0..3), secret(), secret()).prop_map(
        |(root, retiring, bridge, retired, worker, manager)| Authority {
            root,
            retiring,
            bridge,
            retired,
            worker,
            manager,
        },
    )
}

fn there_and_back(object: &Object) -> Object {
    let bytes = pb::Object::from(object).encode_to_vec();
    let message = pb::Object::decode(bytes.as_slice()).expect("what was encoded");
    message.try_into().expect("what was well formed")
}

/// How many inputs are tried: `PROPTEST_CASES`, or 64.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(64)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn services_round_trip(object in service()) {
        prop_assert_eq!(there_and_back(&object), object);
    }

    #[test]
    fn tasks_round_trip(object in task()) {
        prop_assert_eq!(there_and_back(&object), object);
    }

    #[test]
    fn nodes_round_trip(object in node()) {
        prop_assert_eq!(there_and_back(&object), object);
    }

    #[test]
    fn other_objects_round_trip(object in resource()) {
        prop_assert_eq!(there_and_back(&object), object.clone());
        let reference = ObjectRef::try_from(pb::ObjectRef::from(object.reference()));
        prop_assert_eq!(reference, Ok(object.reference()));
    }

    #[test]
    fn service_specs_round_trip_through_json(spec in service_spec()) {
        let json = serde_json::to_string(&spec).expect("serialises");
        let back: ServiceSpec = serde_json::from_str(&json).expect("what was written");
        prop_assert_eq!(back, spec);
    }

    #[test]
    fn any_bytes_are_refused_or_taken_but_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(message) = pb::Object::decode(bytes.as_slice()) {
            let _ = Object::try_from(message);
        }
    }
}

#[test]
fn the_error_names_the_field_by_its_whole_path() {
    let message = pb::ServiceSpec {
        name: "web".to_owned(),
        task: Some(pb::TaskSpec {
            container: Some(pb::ContainerSpec::default()),
            networks: vec![
                pb::NetworkAttachmentSpec { network: "back".to_owned(), ..Default::default() },
                pb::NetworkAttachmentSpec { network: "not a name".to_owned(), ..Default::default() },
            ],
            ..Default::default()
        }),
        ..Default::default()
    };
    let error = ServiceSpec::try_from(message).expect_err("a blank in a name");
    assert_eq!(error.path, "task.networks[1].network");
}
