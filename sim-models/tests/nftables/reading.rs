//! Dumps of nft read back: what was recorded of kube-proxy, in text and JSON, and what people and other tools add.

use crate::json::{read, recorded};
use sim_core::classify::Family;
use sim_core::units::SimSpan;
use sim_models::kernel::dump::ReadError;
use sim_models::kernel::nftables::json::document;
use sim_models::kernel::nftables::print::RuleText;
use sim_models::kernel::nftables::read::{Ruleset, ruleset};
use sim_models::kernel::nftables::{Opaque, SetId, Statement, Table};
use sim_models::proxy::Dumps;
use sim_models::proxy::nftables::mode::Nftables;

#[track_caller]
fn parsed(dump: &str) -> Ruleset {
    ruleset(dump, "kube-proxy").unwrap_or_else(|e| panic!("{e}"))
}

#[track_caller]
fn wrong(dump: &str) -> ReadError {
    ruleset(dump, "kube-proxy").expect_err("this dump is wrong")
}

fn text(tables: &[Table]) -> String {
    tables.iter().map(ToString::to_string).collect()
}

/// The document with zeros for handles.
fn without_handles(json: &str) -> String {
    let mut parts = json.split("\"handle\": ");
    let mut out = parts.next().unwrap().to_owned();
    for part in parts {
        out += "\"handle\": 0";
        out += part.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    out
}

/// What JSON carries of a table: not the comments of tables and chains.
fn as_json_has_it(mut table: Table) -> Table {
    table.comment = None;
    for chain in &mut table.chains {
        chain.comment = None;
    }
    table
}

#[test]
fn recorded_text_is_printed_as_it_was_read() {
    for (folder, _) in recorded() {
        let recorded = read(folder.join("nft.txt"));
        assert_eq!(text(&parsed(&recorded).tables), recorded, "{}", folder.display());
    }
}

#[test]
fn recorded_json_is_printed_as_it_was_read_but_for_handles() {
    for (folder, _) in recorded() {
        let recorded = read(folder.join("nft.json"));
        let printed = document(&parsed(&recorded).tables);
        assert_eq!(without_handles(&printed), without_handles(&recorded), "{}", folder.display());
    }
}

#[test]
fn text_and_json_of_one_ruleset_are_the_same_table() {
    for (folder, _) in recorded() {
        let from_text = parsed(&read(folder.join("nft.txt"))).tables;
        let recorded = read(folder.join("nft.json"));
        let from_json = parsed(&recorded).tables;
        assert_eq!(without_handles(&document(&from_text)), without_handles(&recorded));
        assert_eq!(from_text.into_iter().map(as_json_has_it).collect::<Vec<_>>(), from_json);
    }
}

#[test]
fn every_statement_that_kube_proxy_writes_is_understood() {
    for (folder, tables) in recorded() {
        for table in parsed(&read(folder.join("nft.json"))).tables.iter().chain(&tables) {
            assert_eq!(table.validate(), Ok(()), "{}", folder.display());
        }
    }
}

#[test]
fn tables_that_were_built_are_read_back_from_both_forms() {
    for (folder, tables) in recorded() {
        let printed = text(&tables);
        assert_eq!(text(&parsed(&printed).tables), printed, "{}", folder.display());
        let json = document(&tables);
        assert_eq!(document(&parsed(&json).tables), json, "{}", folder.display());
    }
}

#[test]
fn other_tables_are_passed_over_and_told() {
    let dump = "# Warning: table ip filter is managed by iptables-nft, do not touch!\n\
                table ip filter {\n\tchain INPUT {\n\t\tmeta l4proto tcp xt match \"comment\" counter packets 1 bytes 60 jump cali-INPUT\n\n\t}\n\n}\n\
                table ip kube-proxy {\n}\n\
                table inet cni { # handle 7\n\tset s {\n\t\ttype ifname\n\t}\n}\n\
                table ip6 kube-proxy { # handle 9\n}\n\
                table netdev kube-proxy {\n}\n";
    let read = parsed(dump);
    let families: Vec<_> = read.tables.iter().map(|t| t.family).collect();
    assert_eq!(families, [Family::Ipv4, Family::Ipv6]);
    let skipped: Vec<_> = read.skipped.iter().map(|s| (s.line, s.what.as_str())).collect();
    assert_eq!(skipped, [(2, "table ip filter"), (11, "table inet cni"), (18, "table netdev kube-proxy")]);

    let dump = r#"{"nftables": [{"metainfo": {"version": "1.1.0"}}, {"table": {"family": "inet", "name": "cni", "handle": 1}},
        {"chain": {"family": "inet", "table": "cni", "name": "c", "handle": 1}}, {"rule": {"family": "inet", "table": "cni",
        "chain": "c", "handle": 2, "expr": [{"xt": null}]}}, {"table": {"family": "ip", "name": "kube-proxy", "handle": 2}}]}"#;
    let read = parsed(dump);
    assert_eq!(read.tables.len(), 1);
    assert_eq!(read.skipped[0].what, "table inet cni");
    assert_eq!(parsed(""), Ruleset::default());
}

#[test]
fn a_node_without_the_table_has_no_rules_of_kube_proxy() {
    let rules = Nftables.read("table inet filter {\n}\n", Family::Ipv4).unwrap();
    assert!(rules.nftables.is_none());
}

/// A table with one chain of these rules, an affinity set and a chain to go to.
fn table_with(rules: &str) -> String {
    format!(
        "table ip kube-proxy {{\n\tset affinity {{\n\t\ttype ipv4_addr\n\t\tsize 65535\n\t\tflags dynamic,timeout\n\t\t\
         timeout 3h\n\t}}\n\n\tchain other {{\n\t}}\n\n\tchain c {{\n{rules}\t}}\n}}\n"
    )
}

/// The statements of the first rule as text, opaque ones in brackets.
fn understood(rule: &str) -> String {
    let read = parsed(&table_with(&format!("\t\t{rule}\n")));
    let table = &read.tables[0];
    assert_eq!(table.to_string(), table_with(&format!("\t\t{rule}\n")));
    let rule = &table.chains[1].rules[0];
    let one = |s: &Statement| match s {
        Statement::Opaque(Opaque::Text(text)) => format!("[{text}]"),
        s => RuleText(table, &sim_models::kernel::nftables::Rule::new([s.clone()])).to_string(),
    };
    let mut out: Vec<_> = rule.statements.iter().map(one).collect();
    out.extend(rule.comment.as_ref().map(|c| format!("# {c}")));
    out.join(" | ")
}

#[test]
fn statements_that_kube_proxy_does_not_write_are_kept() {
    let rows = [
        ("counter packets 12 bytes 720 drop", "counter packets 12 bytes 720 | drop"),
        (
            "ip saddr 10.0.0.0/8 counter packets 1 bytes 2 accept",
            "ip saddr 10.0.0.0/8 | counter packets 1 bytes 2 | accept",
        ),
        ("ip daddr 10.0.0.1-10.0.0.2 drop comment \"mine\"", "ip daddr 10.0.0.1-10.0.0.2 | drop | # mine"),
        ("ip saddr { 10.0.0.6, 10.0.0.7 } drop", "ip saddr { 10.0.0.6, 10.0.0.7 } | drop"),
        (
            "ip saddr != { 10.0.0.6-10.0.0.8, 10.1.0.0/16 } drop",
            "ip saddr != { 10.0.0.6-10.0.0.8, 10.1.0.0/16 } | drop",
        ),
        ("ct state established,new jump other", "ct state established,new | jump other"),
        ("ct state new jump other", "ct state new | jump other"),
        ("reject with icmp admin-prohibited", "reject with icmp admin-prohibited"),
        ("masquerade random", "[masquerade random]"),
        ("dnat to 10.0.0.1:80 random,persistent", "[dnat to 10.0.0.1:80 random,persistent]"),
        ("dnat to 10.0.0.1:80", "dnat to 10.0.0.1:80"),
        ("tcp dport 80 dnat to 10.0.0.1:80", "tcp dport 80 | dnat to 10.0.0.1:80"),
        ("tcp dport { 80, 81 } drop", "tcp dport { 80, 81 } | drop"),
        ("meta mark set meta mark & 0xffffbfff", "meta mark set meta mark & 0xffffbfff"),
        ("meta mark set meta mark | 0x00004000 ^ 0x1", "[meta mark set meta mark | 0x00004000 ^ 0x1]"),
        ("meta mark & 0x00004000 == 0x00000000 return", "meta mark & 0x00004000 == 0x00000000 | return"),
        ("update @affinity { ip saddr }", "update @affinity { ip saddr }"),
        ("update @affinity { ip saddr timeout 1h }", "[update @affinity { ip saddr timeout 1h }]"),
        ("update @unheard { ip saddr }", "[update @unheard { ip saddr }]"),
        ("iifname \"cbr0\" accept", "iifname \"cbr0\" | accept"),
        ("iifname != \"cali*\" accept", "iifname != \"cali*\" | accept"),
        (
            "numgen random mod 2 vmap { 0 : goto other, 1 : return }",
            "numgen random mod 2 vmap { 0 : goto other, 1 : return }",
        ),
        (
            "numgen random mod 3 vmap { 0 : goto other, 1 : return }",
            "numgen random mod 3 vmap { 0 : goto other, 1 : return }",
        ),
        (
            "numgen random mod 2 offset 1 vmap { 1 : drop, 2 : drop }",
            "numgen random mod 2 offset 1 vmap { 1 : drop, 2 : drop }",
        ),
        ("log prefix \"a comment \" drop", "log prefix \"a comment \" | drop"),
        ("drop comment \"why\"", "drop | # why"),
    ];
    for (rule, statements) in rows {
        assert_eq!(understood(rule), statements);
    }
}

#[test]
fn newer_nft_prints_addr_and_port_and_is_understood() {
    let rule = "\t\tdnat ip addr . port to numgen random mod 1 map { 0 : 10.0.0.1 . 80 }\n";
    let read = parsed(&table_with(rule));
    assert_eq!(
        read.tables[0].to_string(),
        table_with("\t\tdnat ip to numgen random mod 1 map { 0 : 10.0.0.1 . 80 }\n")
    );
}

#[test]
fn handles_of_nft_a_are_passed_over() {
    let dump = "table ip kube-proxy { # handle 3\n\tset plain { # handle 9\n\t\ttype ipv4_addr\n\t}\n\n\
                \tchain c { # handle 1\n\t\tip daddr @plain drop comment \"x # handle 5\" # handle 24\n\t}\n}\n";
    let without = dump.replace(" # handle 3\n", "\n").replace(" # handle 9\n", "\n");
    let without = without.replace(" # handle 1\n", "\n").replace(" # handle 24\n", "\n");
    assert_eq!(text(&parsed(dump).tables), without);
}

/// A table with objects of every kind that nft 1.0.6 lists, as it lists them.
const FOREIGN: &str = "table ip kube-proxy {\n\tcomment \"rules for kube-proxy\"\n\tcounter hits {\n\t\tpackets 0 bytes 0\n\t}\n\n\
    \tset blocked {\n\t\ttype ipv4_addr . inet_service\n\t\tflags interval\n\t\tcounter\n\t\telements = { 10.0.0.0/8 . 1-5 counter packets 0 bytes 0 }\n\t}\n\n\
    \tset affinity {\n\t\ttype ipv4_addr\n\t\tsize 65535\n\t\tflags dynamic,timeout\n\t\ttimeout 3h\n\t\telements = { 10.0.0.8 timeout 10m expires 9m59s992ms, 10.0.0.9 expires 2h59m59s992ms }\n\t}\n\n\
    \tset plain {\n\t\ttype ipv4_addr\n\t\telements = { 10.0.0.1, 10.0.0.2,\n\t\t\t     10.0.0.3 comment \"a, b } : c\" }\n\t}\n\n\
    \tmap ports {\n\t\ttype inet_service : verdict\n\t\telements = { 1 : accept, 2 : drop, 3 : drop, 4 : drop, 5 : return,\n\t\t\t     6 : jump own }\n\t}\n\n\
    \tmap addresses {\n\t\ttype inet_service : ipv4_addr\n\t\telements = { 1 : 10.0.0.1 }\n\t}\n\n\
    \tchain own {\n\t\tcomment \"mine\"\n\t\tip saddr @blocked drop\n\t}\n\n\
    \tchain early {\n\t\ttype filter hook forward priority security - 5; policy drop;\n\t\tcounter packets 0 bytes 0 accept comment \"c\"\n\t}\n}\n";

#[test]
fn what_others_have_put_into_the_table_stays_where_it_was() {
    let read = parsed(FOREIGN);
    let table = &read.tables[0];
    assert_eq!(table.to_string(), FOREIGN);
    let unknown: Vec<_> = table.unknown.iter().map(|u| (&*u.what, u.after_sets)).collect();
    assert_eq!(unknown, [("counter hits", 0), ("set blocked", 0), ("map addresses", 3)]);
    let affinity = table.find_set("affinity").unwrap();
    assert_eq!(table.lifetimes[&(affinity, 0)].timeout, Some(SimSpan::from_secs(600)));
    assert_eq!(table.lifetimes[&(affinity, 1)].expires, Some(SimSpan::from_ms(10_799_992)));
    assert!(table.chains[1].base.is_some_and(|base| base.drops));
}

#[test]
fn a_table_with_foreign_parts_is_not_evaluated() {
    let refused = |dump: &str| parsed(dump).tables[0].validate().unwrap_err();
    assert!(refused(FOREIGN).starts_with("counter hits: kube-proxy writes no such thing"));
    let opaque = refused(&table_with("\t\taccept\n\t\tsynproxy drop\n"));
    assert_eq!(opaque, "chain c: kube-proxy writes no such statement: synproxy drop");
    let key = refused(&table_with("\t\tip daddr . th dport @affinity drop\n"));
    assert!(key.contains("wrong type"), "{key}");
    let drops =
        "table ip kube-proxy {\n\tchain c {\n\t\ttype route hook output priority 0; policy accept;\n\t}\n}\n";
    assert!(refused(drops).contains("type route"));
}

#[test]
fn json_of_foreign_parts_is_kept_word_for_word() {
    let dump = r#"{"nftables": [{"table": {"family": "ip", "name": "kube-proxy", "handle": 1}},
        {"counter": {"family": "ip", "name": "hits", "table": "kube-proxy", "handle": 7, "packets": 0, "bytes": 0}},
        {"set": {"family": "ip", "name": "affinity", "table": "kube-proxy", "type": "ipv4_addr", "handle": 8, "size": 65535, "flags": ["timeout"], "timeout": 10800, "elem": [{"elem": {"val": "10.0.0.8", "timeout": 600, "expires": 599}}]}},
        {"set": {"family": "ip", "name": "two", "table": "kube-proxy", "type": "ipv4_addr", "handle": 9, "flags": ["interval"], "elem": [{"range": ["10.0.0.1", "10.0.0.2"]}], "stmt": [{"counter": null}]}},
        {"rule": {"family": "ip", "table": "kube-proxy", "chain": "c", "handle": 3, "expr": [{"log": {"prefix": "a \"b\""}}, {"drop": null}]}},
        {"chain": {"family": "ip", "table": "kube-proxy", "name": "c", "handle": 2, "type": "filter", "hook": "input", "prio": 0, "policy": "drop"}}]}"#;
    let table = parsed(dump).tables.remove(0);
    assert_eq!(table.unknown.iter().map(|u| &*u.what).collect::<Vec<_>>(), ["counter hits", "set two"]);
    assert_eq!(table.lifetimes[&(SetId(0), 0)].expires, Some(SimSpan::from_secs(599)));
    let log = r#"{"log": {"prefix": "a \"b\""}}"#;
    assert_eq!(table.chains[0].rules[0].statements[0], Statement::Opaque(Opaque::Json(log.into())));
    let printed = document([&table]);
    for part in [log, r#""stmt": [{"counter": null}]"#, r#""policy": "drop""#, r#""packets": 0"#] {
        assert!(printed.contains(part), "{part} is not in {printed}");
    }
    assert_eq!(document(&parsed(&printed).tables), printed);
}

#[test]
fn newer_json_has_single_flags_without_brackets_and_comments_of_tables_and_chains() {
    let (folder, _) = recorded().into_iter().find(|(f, _)| f.ends_with("08-affinity")).unwrap();
    let older = read(folder.join("nft.json"));
    let newer = older.replace(r#""flags": ["timeout"]"#, r#""flags": "timeout""#);
    let newer = newer.replace(r#""flags": ["saddr"]"#, r#""flags": "saddr""#);
    let newer = newer.replace(r#""flags": ["daddr"]"#, r#""flags": "daddr""#);
    assert!(!newer.contains(r#""flags": ["#) && newer.contains(r#""flags": "daddr""#));
    assert_eq!(parsed(&newer), parsed(&older));

    let dump = r#"{"nftables": [{"table": {"family": "ip", "name": "kube-proxy", "handle": 1, "comment": "one"}},
        {"chain": {"family": "ip", "table": "kube-proxy", "name": "c", "handle": 2, "comment": "two"}}]}"#;
    assert_eq!(
        text(&parsed(dump).tables),
        "table ip kube-proxy {\n\tcomment \"one\"\n\tchain c {\n\t\tcomment \"two\"\n\t}\n}\n"
    );
}

#[test]
fn wrong_values_are_told_with_their_place_and_what_is_allowed() {
    let rows = [
        ("hello\n", "1:1: expected `table FAMILY NAME {`, found `hello`"),
        ("table ip kube-proxy {\n\tchain c {\n", "2:2: `chain c {` is never closed: `}` is missing"),
        ("table inet other {\n", "1:1: `table inet other {` is never closed: `}` is missing"),
        (
            "table ip kube-proxy {\n\tset s {\n\t\ttype ipv4_addr\n\t\telements = { 10.0.0.1, 10.0.0.256 }\n\t}\n}\n",
            "4:26: expected an IPv4 address, found `10.0.0.256`",
        ),
        (
            "table ip kube-proxy {\n\tmap m {\n\t\ttype inet_service : verdict\n\t\telements = { 80 : goto nowhere }\n\t}\n}\n",
            "4:26: chain `nowhere` is nowhere defined",
        ),
        (
            "table ip kube-proxy {\n\tmap m {\n\t\ttype inet_service : verdict\n\t\telements = { 80 : dorp }\n\t}\n}\n",
            "4:21: expected a verdict: accept, drop, return, jump CHAIN or goto CHAIN, found `dorp`",
        ),
        (
            "table ip kube-proxy {\n}\ntable ip kube-proxy {\n}\n",
            "3:1: `table ip kube-proxy {` is there twice",
        ),
        ("{\"nftables\": [\n  {\"table\": {\"family\": \"ip\",}}]}", "2:29: key must be a string"),
        ("{\"nftables\": 7}", "1:14: invalid type: integer `7`, expected a sequence"),
        (
            "{\"nftables\": [\n {\"rule\": {\"family\": \"ip\", \"table\": \"kube-proxy\", \"chain\": \"c\", \"expr\": []}}]}",
            "2:2: a rule of chain `c`, which is nowhere defined",
        ),
        (
            "{\"nftables\": [{\"chain\": {\"family\": \"ip\", \"table\": \"kube-proxy\", \"name\": \"a b\"}}]}",
            "1:15: `a b` is no name: a name has letters, digits, `/`, `_`, `.` and `-`",
        ),
    ];
    for (dump, message) in rows {
        assert_eq!(wrong(dump).to_string(), message, "{dump}");
    }
}

#[test]
fn deep_and_long_dumps_end_in_an_answer() {
    let deep = format!("{{\"nftables\": {}", "[".repeat(1_000_000));
    wrong(&deep);
    let deep = "[".repeat(1_000_000) + &"]".repeat(1_000_000);
    let rule = format!(
        "{{\"nftables\": [{{\"chain\": {{\"family\": \"ip\", \"table\": \"kube-proxy\", \"name\": \"c\"}}}}, {{\"rule\": \
         {{\"family\": \"ip\", \"table\": \"kube-proxy\", \"chain\": \"c\", \"expr\": [{deep}]}}}}]}}"
    );
    assert!(wrong(&rule).message.contains("recursion limit"));
    let braces = format!("table ip kube-proxy {{\n{}", "\tx {\n".repeat(100_000));
    assert!(wrong(&braces).message.contains("never closed"));
    let long = table_with(&format!("\t\tjump {}\n", "a".repeat(10_000_000)));
    assert!(wrong(&long).message.contains("is nowhere defined"));
}

#[test]
fn what_a_reader_should_know_of_a_dump_is_noted() {
    let mut dump = String::new();
    for n in 0..7 {
        dump += &format!("table inet other{n} {{\n}}\n");
    }
    let rules = Nftables.read(&dump, Family::Ipv4).unwrap();
    assert_eq!(
        rules.notes,
        [
            "the dump has no table ip kube-proxy",
            "passed over: 7 other tables: inet other0 (line 1), inet other1 (line 3), inet other2 (line 5), \
             inet other3 (line 7), inet other4 (line 9) and 2 more",
        ]
    );
    let json = r#"{"nftables": [{"table": {"family": "ip", "name": "kube-proxy"}},
        {"table": {"family": "inet", "name": "cni"}},
        {"counter": {"family": "ip", "name": "hits", "table": "kube-proxy", "packets": 0, "bytes": 0}}]}"#;
    assert_eq!(
        Nftables.read(json, Family::Ipv4).unwrap().notes,
        [
            "table ip kube-proxy: 1 part that kube-proxy does not write is kept as it stands; printed as text they are nothing \
             that nft loads",
            "passed over: 1 other table: inet cni (line 2)",
        ]
    );
    let opaque = table_with("\t\tsynproxy drop\n\t\tsynproxy accept\n")
        .replace("chain other", "chain service-A/b/tcp/");
    assert_eq!(
        Nftables.read(&opaque, Family::Ipv4).unwrap().notes,
        [
            "table ip kube-proxy: 2 parts that kube-proxy does not write are kept as they stand; printed as JSON they are \
             nothing that nft loads",
            "table ip kube-proxy: 1 empty chain that waits to be deleted",
        ]
    );
    for (folder, _) in recorded() {
        let rules = Nftables.read(&read(folder.join("nft.txt")), Family::Ipv4).unwrap();
        assert!(rules.notes.iter().all(|note| note.contains("wait")), "{:?}", rules.notes);
    }
}

#[test]
fn a_hundred_thousand_foreign_tables_are_passed_over_in_one_pass() {
    let count = 100_000;
    let text = "table inet x {\n}\n".repeat(count);
    let json = r#"{"table":{"family":"inet","name":"x"}}"#;
    let json = format!("{{\"nftables\": [{}]}}", vec![json; count].join(",\n"));
    // A reader that counted the lines of each from the start would take minutes.
    for (dump, last) in [(text, 2 * count - 1), (json, count)] {
        let read = parsed(&dump);
        assert_eq!(read.skipped.len(), count);
        assert_eq!(read.skipped.last().map(|s| s.line), Some(last));
    }
}

#[test]
fn a_plus_before_a_number_is_not_lost() {
    for rule in [
        "tcp dport +80 drop",
        "ip saddr 10.0.0.0/+8 drop",
        "numgen random mod +1 vmap { 0 : drop }",
        "numgen random mod 1 vmap { +0 : drop }",
        "dnat ip to numgen random mod 1 map { 0 : 10.0.0.1 . +80 }",
        "meta l4proto +6 drop",
    ] {
        assert_eq!(understood(rule), format!("[{rule}]"));
    }
    let element = "table ip kube-proxy {\n\tset s {\n\t\ttype inet_service\n\t\telements = { +80 }\n\t}\n}\n";
    assert!(wrong(element).message.contains("a port from 0 to 65535"));
    let base = "table ip kube-proxy {\n\tchain c {\n\t\ttype filter hook input priority +5; policy accept;\n\t}\n}\n";
    assert!(parsed(base).tables[0].chains[0].base.is_none());
}
