//! What the README says of metrics exists: each family that it names is in a catalogue.

#[test]
fn each_metric_that_the_readme_names_is_in_a_catalogue() {
    let readme = include_str!("../../README.md");
    let known: Vec<&str> =
        pams_agent::metrics::CATALOGUE.iter().chain(pams_server::metrics::CATALOGUE).map(|m| m.name).collect();
    let named: Vec<&str> = readme
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("pams_agent_") || word.starts_with("pams_server_"))
        .collect();
    assert!(named.len() > 10, "{named:?}");
    for name in named {
        assert!(known.contains(&name), "{name} is in no catalogue");
    }
}
