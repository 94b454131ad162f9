//! Tests of the whole way from text to plan.

use crate::diagnostic::{Diagnostics, Style};
use crate::keys::{Kind, SCENARIO, Section};
use crate::known::{Known, Named};
use crate::plan::Plan;
use crate::scenario::Scenario;
use sim_core::units::SimSpan;
use sim_models::config::{
    Action, ControlConfig, DetectLocal, EndpointLaw, EndpointsObjects, FaultConfig, ModeSwitch, NodeConfig,
    NodePortAddresses, Planned, PodConfig, Selection, Share, XtablesBackend,
};

/// Names for tests: a part of the real ones.
pub fn known() -> Known {
    let list =
        |names: &[&str]| names.iter().map(|n| Named { name: (*n).to_owned(), doc: String::new() }).collect();
    Known {
        modes: list(&["iptables", "ipvs", "nftables"]),
        rules_only: list(&["userspace", "ebpf"]),
        schedulers: list(&["rr", "wrr", "lc", "wlc", "sh", "dh", "sed", "nq"]),
        profiles: list(&["linux-6.18", "linux-6.1-instructions"]),
        metrics: list(&["first_packet_mean", "first_packet_p50", "first_packet_p99", "sync_full_mean"]),
        kubernetes_minors: (29, 36),
        ..Known::default()
    }
}

fn plan(text: &str) -> Result<Plan, Diagnostics> {
    Plan::new(&Scenario::parse("test.toml", text)?, &known())
}

fn plan_with(text: &str, sets: &[&str]) -> Result<Plan, Diagnostics> {
    let mut scenario = Scenario::parse("test.toml", text)?;
    for set in sets {
        scenario.set(set);
    }
    Plan::new(&scenario, &known())
}

#[track_caller]
fn planned(text: &str) -> Plan {
    plan(text).unwrap_or_else(|d| panic!("{}", d.render(Style::Plain)))
}

#[track_caller]
fn refused(result: Result<Plan, Diagnostics>) -> String {
    match result {
        Ok(_) => panic!("was planned"),
        Err(d) => d.render(Style::Plain),
    }
}

const FRONT_DOOR: &str = include_str!("../4k-services.toml");

#[test]
fn the_front_door_scenario_plans_seven_sizes_under_three_modes() {
    let plan = planned(FRONT_DOOR);
    assert_eq!((plan.name.as_str(), plan.seed, plan.points.len()), ("test", 42, 21));
    let place: Vec<(u32, f64, &str)> =
        plan.points.iter().map(|p| (p.index, p.axes[0].1, p.config.proxy.mode.as_str())).collect();
    assert_eq!(
        place[..4],
        [(0, 250.0, "iptables"), (1, 250.0, "ipvs"), (2, 250.0, "nftables"), (3, 500.0, "iptables")]
    );
    let last = &plan.points[20].config;
    assert_eq!(
        (last.cluster.services, last.cluster.nodes, last.cluster.endpoints.clone()),
        (16_000, 10, EndpointLaw::Fixed(3))
    );
    assert_eq!((last.traffic[0].rate_per_node, last.traffic[0].requests, last.churn.rate), (100.0, 1, 1.0));
    assert!(
        plan.points.iter().all(|p| p.config.seed == 42),
        "one seed for all modes: the arrivals are paired"
    );
    assert_eq!((plan.charts.len(), plan.gates.len()), (2, 2));
}

#[test]
fn an_empty_scenario_is_a_small_cluster_under_every_mode() {
    let plan = planned("");
    assert_eq!(plan.points.len(), 3);
    assert_eq!(plan.points[0].config.cluster.services, 100);
    assert_eq!(plan.points[0].config.duration, SimSpan::from_secs(10));
}

#[test]
fn a_resolved_scenario_plans_to_itself() {
    for text in [
        FRONT_DOOR,
        "",
        "[cluster]\nendpoints = { a = [5, 0.75], b = [250, 0.25] }\n[proxy]\nmin_sync_period = \"5ms\"\n",
    ] {
        let first = planned(text);
        let second = planned(&first.resolved);
        assert_eq!(second.resolved, first.resolved);
        let show = |p: &Plan| format!("{:?}", p.points);
        assert_eq!(show(&second), show(&first));
    }
}

/// Dotted paths of all keys below a section, lists of tables by their first element.
fn paths(section: &Section, prefix: &str, out: &mut Vec<String>) {
    for key in section.keys {
        let path = format!("{prefix}{}", key.name);
        match key.kind {
            Kind::Table(inner) | Kind::Action(inner) => paths(inner, &format!("{path}."), out),
            Kind::Tables(inner) => paths(inner, &format!("{path}.0."), out),
            _ => out.push(path),
        }
    }
}

#[test]
fn no_key_of_the_table_is_accepted_and_then_ignored() {
    // A date fits no key, so whoever reads the key complains.
    let mut all = Vec::new();
    paths(&SCENARIO, "", &mut all);
    assert!(all.len() > 40, "{all:?}");
    let lists = "[[services]]\n[[traffic]]\n[[gates]]\n[[charts]]\n[[events]]\n[[variants]]\n[[published]]\n";
    for path in all {
        let wrong = plan_with(lists, &[&format!("{path}=2026-01-01")]).expect_err("a date fits nowhere");
        assert!(
            wrong.list.iter().any(|d| d.key == path && d.label == "this is a date"),
            "{path} is not read:\n{}",
            wrong.render(Style::Plain)
        );
    }
}

#[test]
fn a_resolved_scenario_says_its_defaults() {
    let written = planned("").resolved;
    for part in
        ["[cluster]", "[proxy]", "[kernel]", "[churn]", "service_cidr = \"10.96.0.0/12\"", "services = 100"]
    {
        assert!(written.contains(part), "{part} is missing in:\n{written}");
    }
}

#[test]
fn ipvs_has_no_least_sync_period_unless_one_is_written() {
    let spans =
        |text: &str| planned(text).points.iter().map(|p| p.config.proxy.min_sync_period).collect::<Vec<_>>();
    let second = SimSpan::from_secs(1);
    assert_eq!(spans(""), [second, SimSpan::ZERO, second]);
    assert_eq!(spans("[proxy]\nmin_sync_period = \"5ms\"\n"), [SimSpan::from_ms(5); 3]);
}

#[test]
fn an_override_pins_a_swept_key_and_reaches_every_client() {
    let plan =
        plan_with(FRONT_DOOR, &["cluster.services=8000", "seed=7", "traffic.rate=5/s per node"]).unwrap();
    assert_eq!(plan.points.len(), 3);
    let config = &plan.points[0].config;
    assert_eq!((config.cluster.services, config.seed, config.traffic[0].rate_per_node), (8_000, 7, 5.0));
    assert_eq!(plan.gates.len(), 1, "the gate at 4,000 Services says nothing about 8,000");
}

#[test]
fn a_wrong_override_is_shown_as_it_was_typed() {
    let text = refused(plan_with(
        "",
        &["cluster.servces=8000", "nonsense", "cluster.nodes=\"x\"", "traffic.rate=1/s per node"],
    ));
    for part in
        ["--set:1:1", "did you mean `services`?", "takes KEY=VALUE", "cluster.nodes=\"x\"", "this is text"]
    {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
}

#[test]
fn swept_times_and_rates_stand_on_axes_in_nanoseconds_and_per_second() {
    let plan = planned(
        "[[traffic]]\nrate = \"1/s per node\"\n[proxy]\nmodes = [\"ipvs\"]\n[sweep]\n\"proxy.min_sync_period\" = [\"1ms\", \"1s\"]\n\"traffic.rate\" = [\"60/m per node\", \"10/s per node\"]\n",
    );
    let axes: Vec<(f64, f64)> = plan.points.iter().map(|p| (p.axes[0].1, p.axes[1].1)).collect();
    assert_eq!(axes, [(1e6, 1.0), (1e6, 10.0), (1e9, 1.0), (1e9, 10.0)]);
    assert_eq!(plan.points[3].config.traffic[0].rate_per_node, 10.0);
}

#[test]
fn all_errors_of_a_file_come_at_once_and_each_only_once() {
    let text = refused(plan(
        "duration = 30\n[cluster]\nservces = 4\nnodes = \"ten\"\n[proxy]\nmodes = [\"iptable\"]\n[sweep]\n\"cluster.endpoints\" = [1, 2, 3]\n",
    ));
    assert!(text.ends_with("4 errors\n"), "{text}");
}

#[test]
fn absurd_sizes_are_refused_before_anything_is_built() {
    for (text, part) in [
        ("[cluster]\nservices = 1_000_000_000_000\n", "at most 100,000"),
        ("[cluster]\nservices = 999999999999999999999999999999\n", "at most 100,000"),
        ("[cluster]\nservices = 100000\nendpoints = 1000\n", "100,000,000 endpoints together"),
        (
            "duration = \"24h\"\n[cluster]\nnodes = 5000\n[[traffic]]\nrate = \"1000/s per node\"\n",
            "requests, at most",
        ),
        ("[sweep]\n\"cluster.nodes\" = [0]\n", "at least 1"),
        ("duration = \"1000h\"\n", "from 1ms to 24h"),
        ("[cluster]\nendpoints = { a = [1, 0.5] }\n", "add up to 0.5"),
    ] {
        let out = refused(plan(text));
        assert!(out.contains(part), "{part} is not in:\n{out}");
    }
}

const CONFIG: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: nftables\n\
    clusterCIDR: 10.200.0.0/16,fd00::/64\nnftables: {masqueradeBit: 3, minSyncPeriod: 2s}\n\
    iptables: {masqueradeBit: 5}\nipvs: {scheduler: wlc, strictARP: true}\nnodePortAddresses: [primary]\n";

fn plan_over(config: &str, text: &str) -> Result<Plan, Diagnostics> {
    let mut scenario = Scenario::parse("test.toml", text)?;
    assert!(scenario.proxy_config().is_some());
    scenario.proxy_config_text("kube-proxy.yaml", config);
    Plan::new(&scenario, &known())
}

#[track_caller]
fn planned_over(config: &str, text: &str) -> Plan {
    plan_over(config, text).unwrap_or_else(|d| panic!("{}", d.render(Style::Plain)))
}

#[test]
fn a_configuration_file_gives_what_the_scenario_does_not_write() {
    let plan = planned_over(CONFIG, "[proxy]\nconfig = \"kube-proxy.yaml\"\n");
    let [point] = &plan.points[..] else { panic!("{} points", plan.points.len()) };
    let proxy = &point.config.proxy;
    assert_eq!((proxy.mode.as_str(), proxy.masquerade_bit), ("nftables", 3));
    assert_eq!(proxy.min_sync_period, SimSpan::from_secs(2));
    assert_eq!(proxy.node_port_addresses, NodePortAddresses::Primary);
    assert_eq!(proxy.cluster_cidrs.len(), 2);
    assert_eq!(point.config.cluster.cluster_cidr, proxy.cluster_cidrs[0], "pods get their addresses from it");
}

#[test]
fn keys_that_are_written_win_over_the_configuration_file() {
    let plan = planned_over(
        CONFIG,
        "[cluster]\ncluster_cidr = \"10.128.0.0/9\"\n[proxy]\nconfig = \"kube-proxy.yaml\"\n\
         modes = [\"iptables\", \"ipvs\"]\nscheduler = \"sh\"\nnode_port_addresses = []\n[proxy.ipvs]\nstrict_arp = false\n\
         tables = \"resizable\"\n\
         [sweep]\n\"proxy.masquerade_bit\" = [1, 2]\n\"proxy.conntrack.min\" = [0]\n",
    );
    assert_eq!(plan.points.len(), 4);
    let bits: Vec<u8> = plan.points.iter().map(|p| p.config.proxy.masquerade_bit).collect();
    assert_eq!(bits, [1, 1, 2, 2]);
    let ipvs = &plan.points[1].config.proxy;
    assert_eq!((ipvs.ipvs.scheduler.as_str(), ipvs.ipvs.strict_arp), ("sh", false));
    assert_eq!(ipvs.ipvs.tables, sim_models::kernel::ipvs::Tables::RESIZABLE, "which no configuration says");
    assert_eq!((&ipvs.node_port_addresses, ipvs.conntrack.min), (&NodePortAddresses::Unset, 0));
    assert_eq!(ipvs.min_sync_period, SimSpan::ZERO, "the section nftables is not for ipvs mode");
    let nets: Vec<String> = ipvs.cluster_cidrs.iter().map(ToString::to_string).collect();
    assert_eq!(nets, ["10.128.0.0/9", "fd00::/64"]);
}

#[test]
fn a_scenario_over_a_configuration_file_plans_to_itself_with_the_file() {
    let bare = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";
    for (config, text) in [
        (CONFIG, "[proxy]\nconfig = \"kube-proxy.yaml\"\n"),
        (CONFIG, "[proxy]\nconfig = \"a.yaml\"\nmodes = [\"ipvs\"]\nconntrack = { min = 7 }\n"),
        (
            CONFIG,
            "[cluster]\ncluster_cidr = \"10.128.0.0/9\"\n[proxy]\nconfig = \"a.yaml\"\ndetect_local = \"none\"\n",
        ),
        (bare, "[proxy]\nconfig = \"kube-proxy.yaml\"\n"),
    ] {
        let first = planned_over(config, text);
        let second = planned_over(config, &first.resolved);
        assert_eq!(second.resolved, first.resolved);
        assert_eq!(format!("{:?}", second.points), format!("{:?}", first.points));
    }
    let none = planned_over(bare, "[proxy]\nconfig = \"kube-proxy.yaml\"\n");
    assert!(none.points[0].config.proxy.cluster_cidrs.is_empty(), "kube-proxy has no detector then");
}

#[test]
fn a_mode_that_is_not_simulated_is_refused_where_only_the_file_says_it() {
    let config = CONFIG.replace("mode: nftables", "mode: userspace");
    let text = refused(plan_over(&config, "[proxy]\nconfig = \"kube-proxy.yaml\"\n"));
    assert!(text.contains("its mode, userspace, is not simulated") && text.ends_with("1 error\n"), "{text}");
    let written = "[proxy]\nconfig = \"kube-proxy.yaml\"\nmodes = [\"iptables\"]\n";
    assert_eq!(planned_over(&config, written).points[0].config.proxy.masquerade_bit, 5);
}

#[test]
fn mistakes_of_the_file_and_of_the_scenario_are_told_together() {
    let text = refused(plan_over("mode: ipvs\n", "duration = 30\n[proxy]\nconfig = \"kube-proxy.yaml\"\n"));
    assert!(text.contains("test.toml:1:12") && text.contains("kube-proxy.yaml:1:1"), "{text}");
    assert!(text.ends_with("2 errors\n"), "{text}");
}

#[test]
fn every_setting_of_the_proxy_reaches_it() {
    let plan = planned(
        "[proxy]\nbackend = \"nft\"\ndetect_local = \"interface_name_prefix\"\ninterface_name_prefix = \"veth\"\n\
         node_port_addresses = [\"192.168.0.0/16\"]\nsync_period = \"1m\"\n[proxy.ipvs]\nexclude_cidrs = [\"10.9.0.0/16\"]\n\
         tcp_timeout = \"15m\"\n[proxy.conntrack]\ntcp_be_liberal = true\nudp_timeout = \"10s\"\n",
    );
    let proxy = &plan.points[0].config.proxy;
    assert_eq!(proxy.backend, XtablesBackend::Nft);
    assert_eq!(proxy.detect_local, DetectLocal::InterfaceNamePrefix("veth".into()));
    assert!(proxy.cluster_cidrs.is_empty());
    assert_eq!(proxy.node_port_addresses, NodePortAddresses::Cidrs(vec!["192.168.0.0/16".parse().unwrap()]));
    assert_eq!(
        (proxy.sync_period, proxy.ipvs.timeouts[0]),
        (SimSpan::from_secs(60), SimSpan::from_secs(900))
    );
    assert_eq!(proxy.ipvs.exclude_cidrs.len(), 1);
    assert!(proxy.conntrack.tcp_be_liberal);
    assert_eq!(proxy.conntrack.udp, SimSpan::from_secs(10));
    let second = planned(&plan.resolved);
    assert_eq!(second.resolved, plan.resolved);
}

#[test]
fn defaults_of_the_cluster_in_time_are_those_of_the_models() {
    let config = &planned("").points[0].config;
    assert_eq!(config.control, ControlConfig::default());
    assert_eq!(config.pods, PodConfig::default());
    assert_eq!(config.nodes, NodeConfig::default());
    assert_eq!((config.timeline.len(), config.faults), (0, FaultConfig::default()));
}

#[test]
fn older_versions_watch_endpoints_and_wait_less_for_silent_nodes() {
    let known = Known { kubernetes_minors: (0, 36), ..known() };
    let of = |version: &str| {
        let text = format!("[proxy]\nmodes = [\"iptables\"]\nkubernetes = \"{version}\"\n");
        let plan = Plan::new(&Scenario::parse("test.toml", &text).unwrap(), &known).unwrap();
        (plan.points[0].config.control.endpoints, plan.points[0].config.nodes.monitor_grace)
    };
    let (slices, short) = (EndpointsObjects::Slices { max: 100 }, SimSpan::from_secs(40));
    assert_eq!(of("1.18"), (EndpointsObjects::Endpoints, short));
    assert_eq!(of("1.19"), (slices, short));
    assert_eq!(of("1.32"), (slices, SimSpan::from_secs(50)));
}

const TIMELINE: &str = "duration = \"10m\"\n[cluster]\nnodes = 20\nservices = 100\n[nodes]\nzones = 2\n\
    [proxy]\nmodes = [\"iptables\"]\n\
    [[events]]\nat = \"5m\"\nswitch_mode = { to = \"ipvs\", flush = false, parallel = 2 }\n\
    [[events]]\nat = \"30s\"\nrolling_update = { pods = 30, max_surge = 2, max_unavailable = \"10%\" }\n\
    [[events]]\nat = \"1m\"\nfail_nodes = { nodes = [3, \"node-4\"], recover_after = \"5m\" }\n\
    [[events]]\nat = \"2m\"\napi_outage = { lasts = \"90s\" }\n\
    [[events]]\nat = \"4m\"\nscale = { service = \"ns-7/svc-00007\", replicas = 9 }\n\
    [[events]]\nat = \"4m\"\nrestart_proxies = {}\n\
    [[events]]\nat = \"9m\"\nrelabel = { nodes = \"all\" }\n";

#[test]
fn events_become_the_timeline_in_order_of_time() {
    let plan = planned(TIMELINE);
    let timeline = &plan.points[0].config.timeline;
    let of = |seconds: u64, action: Action| Planned { at: SimSpan::from_secs(seconds), action };
    assert_eq!(
        timeline[..6],
        [
            of(
                30,
                Action::RollingUpdate {
                    services: Selection::Pods(30),
                    max_surge: Share::Pods(2),
                    max_unavailable: Share::Percent(10)
                }
            ),
            of(60, Action::FailNodes { nodes: vec![3, 4], recover_after: Some(SimSpan::from_secs(300)) }),
            of(120, Action::ApiOutage { lasts: SimSpan::from_secs(90) }),
            of(240, Action::Scale { services: Selection::Named("ns-7/svc-00007".into()), replicas: 9 }),
            of(240, Action::RestartProxies { nodes: Vec::new() }),
            of(
                300,
                Action::SwitchMode(ModeSwitch {
                    to: "ipvs".into(),
                    restart: true,
                    flush: false,
                    wait: true,
                    parallel: 2
                })
            ),
        ]
    );
    assert!(matches!(&timeline[6].action, Action::Relabel { nodes } if nodes.len() == 20));
    let told: Vec<String> = plan.points[0]
        .moments()
        .iter()
        .map(|m| format!("{:>3} s  {}", m.at_ns / 1_000_000_000, m.what))
        .collect();
    assert_eq!(
        told,
        [
            " 30 s  rolling update of 30 pods",
            " 60 s  2 nodes down",
            "120 s  API server away",
            "210 s  API server back",
            "240 s  ns-7/svc-00007 to 9 pods",
            "240 s  kube-proxy restarts, all nodes",
            "300 s  switch to ipvs",
            "360 s  2 nodes back",
            "540 s  20 nodes relabelled",
        ]
    );
    let second = planned(&plan.resolved);
    assert_eq!(second.resolved, plan.resolved);
    assert_eq!(format!("{:?}", second.points), format!("{:?}", plan.points));
}

#[test]
fn times_and_numbers_of_events_can_be_swept() {
    let plan = planned(&format!(
        "{TIMELINE}[sweep]\n\"events.3.api_outage.lasts\" = [\"1s\", \"1m\"]\n\"faults.failed_restores\" = [0, \"1%\"]\n"
    ));
    let places: Vec<(f64, f64)> = plan.points.iter().map(|p| (p.axes[0].1, p.axes[1].1)).collect();
    assert_eq!(places, [(1e9, 0.0), (1e9, 0.01), (6e10, 0.0), (6e10, 0.01)]);
    assert_eq!(plan.points[1].config.faults.failed_restores, 0.01);
}

const VARIANTS: &str = "[proxy]\nmodes = [\"iptables\", \"ipvs\"]\n[cluster]\nservices = 100\n\
    [[variants]]\nname = \"before\"\nset = { \"proxy.kubernetes\" = \"1.29\" }\n\
    [[variants]]\nname = \"after\"\nset = { proxy.kubernetes = \"1.36\", \"proxy.modes\" = [\"nftables\"] }\n\
    [sweep]\n\"cluster.nodes\" = [1, 2]\n";

#[test]
fn variants_run_beside_each_other_at_every_swept_value() {
    let plan = planned(VARIANTS);
    let shown: Vec<String> = plan
        .points
        .iter()
        .map(|p| {
            format!(
                "{} {} {} 1.{}",
                p.axes[0].1, p.variant, p.config.proxy.mode, p.config.proxy.kubernetes_minor
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            "1 before iptables 1.29",
            "1 before ipvs 1.29",
            "1 after nftables 1.36",
            "2 before iptables 1.29",
            "2 before ipvs 1.29",
            "2 after nftables 1.36",
        ]
    );
    let second = planned(&plan.resolved);
    assert_eq!(format!("{:?}", second.points), format!("{:?}", plan.points));
}

#[test]
fn an_override_wins_over_variants() {
    let plan = plan_with(VARIANTS, &["proxy.kubernetes=\"1.33\""])
        .unwrap_or_else(|d| panic!("{}", d.render(Style::Plain)));
    assert!(plan.points.iter().all(|p| p.config.proxy.kubernetes_minor == 33));
}

#[test]
fn a_value_inside_a_list_that_was_set_is_pointed_at_where_it_stands() {
    let mut scenario = Scenario::parse("s.toml", "").unwrap();
    scenario.set("proxy.modes=[\"iptables\", \"ipv\"]");
    let told = Plan::new(&scenario, &known()).unwrap_err().render(Style::Plain);
    assert!(told.contains("--set:1:26"), "{told}");
}
