//! From the line that the first start prints to an agent at work, and the ways in which a token does not work.

use pams_shared::identity::Token;
use serde_json::Value;

use crate::{
    harness::{LOOPBACK, free_port},
    pams::Pams,
    peer::Seat,
};

pub async fn tokens(pams: &Pams) -> Vec<Value> {
    let told: Value = serde_json::from_str(&pams.cli(&["token", "list", "-o", "json"]).await).unwrap();
    told["tokens"].as_array().unwrap().clone()
}

pub async fn token(pams: &Pams, words: &[&str]) -> (String, String) {
    let told = pams.cli(&[&["token", "create", "-o", "json"], words].concat()).await;
    let told: Value = serde_json::from_str(&told).unwrap();
    (told["id"].as_str().unwrap().to_owned(), told["token"].as_str().unwrap().to_owned())
}

pub async fn refused(pams: &Pams, name: &str, token: &str) -> String {
    match Seat::new(pams.dir.path(), name).try_start(Some(token)).await {
        Ok(_) => panic!("{name} joined"),
        Err(error) => format!("{error:#}"),
    }
}

#[tokio::test]
async fn the_first_start_prints_the_line_that_an_agent_joins_with() {
    let pams = Pams::start().await;
    let line = pams.join_line.clone().unwrap();
    assert!(line.starts_with("pams-agent --join 'pams-join-1."), "{line}");
    let agent = Seat::new(pams.dir.path(), "a");
    let running = agent.start(Some(pams.token())).await;
    pams.until_liveness(agent.peer, "live").await;
    let epoch = pams.epoch_of(agent.peer).await;
    let [first] = &tokens(&pams).await[..] else { panic!("one token") };
    assert_eq!((&first["used"], &first["state"]), (&1.into(), &"open".into()), "{first}");
    drop(running.stop().await);
    // The same command line again: it has joined, and nothing is used.
    let _running = agent.start(Some(pams.token())).await;
    pams.until("its next epoch", agent.peer, |p| p["order"]["epoch"] == epoch + 1).await;
    assert_eq!(tokens(&pams).await[0]["used"], 1);
}

#[tokio::test]
async fn the_line_gives_the_address_that_is_advertised() {
    let at = format!("pams.example.org:{}", free_port().port());
    let pams = Pams::with(&["--advertise", &at]).await;
    let token: Token = pams.token().parse().unwrap();
    assert_eq!(token.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(), [at]);
}

#[tokio::test]
async fn each_token_that_does_not_work_ends_the_agent_with_its_own_reason() {
    let pams = Pams::start().await;
    let (revoked, with_revoked) = token(&pams, &[]).await;
    pams.cli(&["token", "revoke", &revoked]).await;
    let told = refused(&pams, "a", &with_revoked).await;
    assert!(told.contains("was revoked") && told.contains("pams-server token create"), "{told}");

    let (_, with_once) = token(&pams, &["--uses", "1"]).await;
    let once = Seat::new(pams.dir.path(), "b").start(Some(&with_once)).await;
    let told = refused(&pams, "c", &with_once).await;
    assert!(told.contains("used up") && told.contains("pams-server token create"), "{told}");
    drop(once.stop().await);

    let (_, with_short) = token(&pams, &["--ttl", "1s"]).await;
    crate::harness::until("it expires", async || tokens(&pams).await.iter().any(|t| t["state"] == "expired")).await;
    let told = refused(&pams, "d", &with_short).await;
    assert!(told.contains("expired") && told.contains("pams-server token create"), "{told}");

    // Another secret under a token's id; and another server's token with this one's address.
    let good: Token = pams.open_token().await.parse().unwrap();
    let (another, elsewhere) = (pams.open_token().await.parse::<Token>().unwrap(), Pams::start().await);
    let told = refused(&pams, "e", &Token { secret: another.secret, ..good.clone() }.to_string()).await;
    assert!(told.contains("secret"), "{told}");
    let foreign: Token = elsewhere.token().parse().unwrap();
    let told = refused(&pams, "f", &Token { addresses: good.addresses.clone(), ..foreign }.to_string()).await;
    assert!(told.contains("token") && !told.contains("secret"), "{told}");

    let told = refused(&pams, "g", "pams-join-1.typo").await;
    assert!(told.contains("--join can not be used"), "{told}");
    let nobody = Token { addresses: vec![free_port().into()], ..good };
    let dead = Seat::new(pams.dir.path(), "h").with(|c| c.listen = LOOPBACK);
    let told = format!("{:#}", dead.try_start(Some(&nobody.to_string())).await.err().expect("nobody is there"));
    assert!(told.contains("nothing listens there"), "{told}");
    assert_eq!(tokens(&pams).await.iter().map(|t| t["used"].as_u64().unwrap()).sum::<u64>(), 1);
}
