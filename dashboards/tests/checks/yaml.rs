//! YAML files are YAML, and what they mention is there.

use std::{fs, path::Path};

use pams_dashboards::prometheus::{AGENT_JOB, SERVER_JOB, Scrape, Timing, alerts, cases, rules};
use yaml_rust2::{Yaml, YamlLoader};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> Yaml {
    let text = fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    let mut documents = YamlLoader::load_from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}"));
    assert_eq!(documents.len(), 1, "{path}");
    documents.remove(0)
}

fn texts(yaml: &Yaml) -> Vec<&str> {
    yaml.as_vec().unwrap().iter().map(|y| y.as_str().unwrap()).collect()
}

#[test]
fn prometheus_scrapes_the_servers_and_the_agents_that_one_knows() {
    let config = read("prometheus/prometheus.yml");
    assert_eq!(texts(&config["rule_files"]), ["rules.yml", "alerts.yml"]);
    let jobs = config["scrape_configs"].as_vec().unwrap();
    assert_eq!(jobs.iter().map(|j| j["job_name"].as_str().unwrap()).collect::<Vec<_>>(), [SERVER_JOB, AGENT_JOB]);
    let [server] = &Scrape::default().servers[..] else { panic!("one server, as a start") };
    for (job, list) in jobs.iter().zip(["servers", "prometheus"]) {
        let asked = job["http_sd_configs"].as_vec().unwrap();
        let urls: Vec<_> = asked.iter().map(|sd| sd["url"].as_str().unwrap()).collect();
        assert_eq!(urls, [format!("http://{server}/api/v1/sd/{list}")]);
        assert!(job["static_configs"].is_badvalue(), "a server that is named twice is counted twice");
    }
}

#[test]
fn rules_alerts_and_tests_come_through_as_they_are() {
    let all = rules(Timing::default());
    let read_rules = read("prometheus/rules.yml");
    for (rule, yaml) in all.iter().zip(read_rules["groups"][0]["rules"].as_vec().unwrap()) {
        assert_eq!(yaml["record"].as_str(), Some(rule.name));
        assert_eq!(yaml["expr"].as_str(), Some(rule.expr.to_string().as_str()));
    }
    let read_alerts = read("prometheus/alerts.yml");
    let all = alerts(Timing::default());
    let yamls = read_alerts["groups"][0]["rules"].as_vec().unwrap();
    assert_eq!(yamls.len(), all.len());
    for (alert, yaml) in all.iter().zip(yamls) {
        assert_eq!(yaml["expr"].as_str(), Some(alert.expr().to_string().as_str()), "{}", alert.name);
        let annotations = &yaml["annotations"];
        assert_eq!(annotations["description"].as_str(), Some(alert.description));
        assert_eq!(annotations["runbook"].as_str().unwrap().lines().collect::<Vec<_>>(), alert.runbook);
    }
    let tests = read("prometheus/tests/alerts.yml");
    assert_eq!(tests["tests"].as_vec().unwrap().len(), cases().len());
}

/// Of `a:b` or `a:b:ro`.
fn mounts(service: &Yaml) -> Vec<(&str, &str)> {
    texts(&service["volumes"]).iter().map(|v| v.trim_end_matches(":ro").split_once(':').unwrap()).collect()
}

#[test]
fn the_compose_file_mounts_what_is_there_where_it_is_looked_for() {
    let compose = read("compose.yml");
    let (prometheus, grafana) = (&compose["services"]["prometheus"], &compose["services"]["grafana"]);
    for service in [prometheus, grafana] {
        let (_, tag) = service["image"].as_str().unwrap().rsplit_once(':').unwrap();
        assert!(tag.split('.').count() == 3, "{tag} is no pinned version");
        assert_eq!(service["network_mode"].as_str(), Some("host"));
        for (from, _) in mounts(service) {
            match from.strip_prefix("./") {
                Some(path) => assert!(root().join(path).exists(), "{from}"),
                None => assert!(!compose["volumes"].as_hash().unwrap()[&Yaml::String(from.into())].is_badvalue()),
            }
        }
    }
    let target = |service, from| mounts(service).iter().find(|m| m.0 == from).unwrap().1.to_owned();
    let option = |name: &str| {
        let all = texts(&prometheus["command"]);
        all.iter().find_map(|w| w.strip_prefix(name).and_then(|w| w.strip_prefix('='))).unwrap().to_owned()
    };
    assert_eq!(option("--config.file"), format!("{}/prometheus.yml", target(prometheus, "./prometheus")));
    assert_eq!(option("--storage.tsdb.path"), target(prometheus, "prometheus"));

    let source = &read("provisioning/datasource.yml")["datasources"][0];
    assert_eq!(source["url"].as_str().unwrap(), format!("http://{}", option("--web.listen-address")));
    assert_eq!(source["jsonData"]["timeInterval"].as_str(), Some(Scrape::default().interval));
    let folder = target(grafana, "./grafana");
    assert_eq!(read("provisioning/dashboards.yml")["providers"][0]["options"]["path"].as_str(), Some(folder.as_str()));
    let home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"].as_str().unwrap();
    let home = home.strip_prefix(&format!("{folder}/")).unwrap();
    assert!(root().join("grafana").join(home).exists(), "{home}");
}
