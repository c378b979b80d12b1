//! A second server joins the first with one pasted line, and lets agents in itself.

use serde_json::Value;

use crate::{
    harness::until,
    joining::{refused, token, tokens},
    pams::Pams,
    peer::Seat,
};

#[tokio::test]
async fn a_second_server_joins_with_one_line_and_prints_its_own() {
    let first = Pams::with(&["--domain", "games.example"]).await;
    let made = first.cli(&["token", "create", "--role", "server", "-o", "json"]).await;
    let made: Value = serde_json::from_str(&made).unwrap();
    let pasted = made["token"].as_str().unwrap();
    assert_eq!(made["command"], format!("pams-server --join '{pasted}'"));
    assert_eq!((&made["role"], &made["uses"]), (&"server".into(), &1.into()));
    let mut second = Pams::with(&[&format!("PAMS_SERVER_JOIN={pasted}")]).await;
    assert!(second.join_line.as_deref().unwrap().starts_with("pams-agent --join 'pams-join-1."));

    // An agent of the second is live at the first.
    let seat = Seat::new(second.dir.path(), "a").with(|c| c.homes = vec![first.quic.into()]);
    let agent = seat.start(Some(second.token())).await;
    first.until_liveness(seat.peer, "live").await;
    // And shown by the second, whose agent it is not.
    let shown = second.until_liveness(seat.peer, "live").await;
    assert_eq!((&shown["home"]["because"], &shown["server"]), (&"told".into(), &first.id().await.into()));
    agent.running.stop().await;

    // Forgotten at either, it is turned away.
    let told = second.cli(&["forget", &seat.peer.to_string()]).await;
    assert!(told.contains("its id is free for another key"), "{told}");
    let seat = seat.with(|c| c.homes = vec![second.quic.into()]);
    let agent = seat.start(None).await;
    let turned_away = [("reason", "hello")];
    until("it is turned away", async || second.metric("pams_server_frames_rejected_total", &turned_away).await >= 1.0)
        .await;
    agent.running.stop().await;

    // The same line again: it has joined, and nothing is used.
    second.kill().await;
    let second = second.start_again().await;
    let used = |tokens: Vec<Value>| tokens.iter().find(|t| t["role"] == "server").unwrap()["used"].clone();
    assert_eq!(used(tokens(&first).await), 1);
    let refusal = Pams::fails(&["--join", pasted]).await;
    assert!(refusal.0 == 69 && refusal.1.contains("is used up"), "{refusal:?}");
    assert!(second.cli(&["token", "list"]).await.contains("made at the first start"));
}

#[tokio::test]
async fn a_token_of_the_wrong_role_ends_the_program_with_the_reason() {
    let first = Pams::start().await;
    let (code, told) = Pams::fails(&["--join", first.token()]).await;
    assert_eq!(code, 69, "{told}");
    assert!(told.contains("lets agents join, not servers: start pams-agent with it"), "{told}");
    let (_, for_servers) = token(&first, &["--role", "server"]).await;
    let told = refused(&first, "a", &for_servers).await;
    assert!(told.contains("lets servers join, not agents: start pams-server with it"), "{told}");
    let (code, told) = Pams::fails(&["--join", "pams-join-1.typo"]).await;
    assert!(code == 64 && told.starts_with("pams-server: --join: the join token is cut off"), "{told}");
}

#[tokio::test]
async fn only_the_first_server_makes_tokens_for_servers() {
    let first = Pams::start().await;
    let (_, for_servers) = token(&first, &["--role", "server"]).await;
    let second = Pams::with(&["--join", &for_servers]).await;
    let told = second.cli_fails(&["token", "create", "--role", "server"]).await;
    let at = format!("make the token on the server that made the cluster; this one joined at {}", first.quic);
    assert!(told.contains("only a server with the root's key") && told.contains(&at), "{told}");
    assert!(!second.cli(&["token", "list"]).await.contains("server"));
}
