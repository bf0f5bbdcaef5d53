//! Virtual addresses.

use std::collections::BTreeSet;

use berth_netoverlay::model::Proto;

use crate::host::*;

#[test]
fn a_virtual_address_is_balanced_over_ready_backends() {
    by_each_backend("vip::a_virtual_address_is_balanced_over_ready_backends", async |host| {
        let overlay = host.overlay().await;
        overlay.set_networks(vec![network(1, "a")]).await.unwrap();
        for t in [2, 3, 4, 9] {
            overlay.attach(spec(t, &[1])).await.unwrap();
            tcp_server(&host.task(t), 80, &format!("t{t}"));
        }
        overlay.set_service(service(1, &[2, 3, 4], &[])).await.unwrap();
        let seen = |from: u8| -> BTreeSet<String> {
            (0..60).map(|_| ask(&host.task(from), (address(1, 200), 80)).unwrap()).collect()
        };
        let all = ["t2", "t3", "t4"].map(|t| format!("{t} 10.1.0.9"));
        assert_eq!(seen(9), all.into(), "every backend, and each sees the client");
        overlay.set_ready(task(3), false).await.unwrap();
        let left = ["t2", "t4"].map(|t| format!("{t} 10.1.0.9"));
        assert_eq!(seen(9), left.into(), "none goes to the one that is not ready");
        assert!(seen(2).contains("t2 10.1.0.2"), "a backend reaches itself by the virtual address");
        // A task that comes later sees it too.
        overlay.attach(spec(10, &[1])).await.unwrap();
        assert_eq!(seen(10).len(), 2);
        overlay.teardown().await.unwrap();
    });
}

#[test]
fn many_services_and_many_backends() {
    by_each_backend("vip::many_services_and_many_backends", async |host| {
        let overlay = host.overlay().await;
        overlay.set_networks(vec![network(1, "a")]).await.unwrap();
        overlay.attach(spec(2, &[1])).await.unwrap();
        overlay.attach(spec(3, &[1])).await.unwrap();
        tcp_server(&host.task(3), 80, "t3");
        let mut services = Vec::new();
        for n in 0..1000u32 {
            let mut service = service(1, &[3], &[]);
            let [high, low] = (n as u16).to_be_bytes();
            service.id = berth_proto::id::ServiceId::from_random(u128::from(n));
            service.name = format!("s{n}");
            service.vips = [(net_id(1), vec![[10, 99, high, low].into()])].into();
            service.backends = (0..16).map(|_| service.backends[0].clone()).collect();
            services.push(service);
        }
        overlay.set_services(services).await.unwrap();
        assert_eq!(ask(&host.task(2), ([10, 99, 3, 231], 80)).unwrap(), "t3 10.1.0.2");
        let report = overlay.reconcile().await.unwrap();
        assert!(report.steps.is_empty(), "listing finds what was written: {:?}", report.steps);
        overlay.teardown().await.unwrap();
    });
}

/// A connection picks its backend in several look-ups, between which the backends may change.
#[test]
fn no_connection_is_refused_while_other_backends_come_and_go() {
    by_each_backend("vip::no_connection_is_refused_while_other_backends_come_and_go", async |host| {
        let overlay = host.overlay().await;
        overlay.set_networks(vec![network(1, "a")]).await.unwrap();
        let backends: Vec<u8> = (2..10).collect();
        for t in &backends {
            overlay.attach(spec(*t, &[1])).await.unwrap();
            tcp_server(&host.task(*t), 80, "web");
        }
        overlay.attach(spec(20, &[1])).await.unwrap();
        let ports = [port(Proto::Tcp, 8080, 80)];
        overlay.set_service(service(1, &backends, &ports)).await.unwrap();
        let clients = [
            Calls::start(host.client(), (HOST, 8080)),
            Calls::start(node(), (HOST, 8080)),
            Calls::start(&host.task(20), (address(1, 200), 80)),
        ];
        for _ in 0..rounds(100) {
            overlay.set_service(service(1, &backends[..1], &ports)).await.unwrap();
            overlay.set_service(service(1, &backends, &ports)).await.unwrap();
        }
        for (calls, from) in clients.into_iter().zip(["outside", "the node", "a task"]) {
            let (answered, failed) = calls.stop();
            assert!(failed.is_empty() && answered > 0, "from {from}: {answered} answered, failed: {failed:?}");
        }
        overlay.teardown().await.unwrap();
    });
}
