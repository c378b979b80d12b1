//! What is fuzzed, over the inputs that are known: golden frames, bad and good configuration files, and what fuzzing found.
//! `UPDATE=1` writes the known ones to `fuzz/seeds`, for cargo-fuzz to start from.

#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use pams_shared::{
    frame::{Frame, Join, Role, STREAM_BYTES_MAX, wire},
    identity::{SECRET_BYTES, Token},
};

/// A name and bytes.
type Input = (String, Vec<u8>);

#[test]
fn whatever_is_handed_in_breaks_nothing() {
    for (target, check) in targets::TARGETS {
        let inputs: Vec<Input> = [seeds(target), files(&here().join("fuzz/corpus").join(target))].concat();
        assert!(inputs.len() > 3, "{target} has a corpus");
        for (name, bytes) in inputs {
            println!("{target}: {name}"); // shown with a failure
            check(&bytes);
        }
    }
}

#[test]
fn seeds_are_there_to_start_from() {
    if env::var_os("UPDATE").is_none() {
        return;
    }
    for (target, _) in targets::TARGETS {
        let folder = here().join("fuzz/seeds").join(target);
        fs::create_dir_all(&folder).unwrap();
        for (name, bytes) in seeds(target) {
            fs::write(folder.join(name), bytes).unwrap();
        }
    }
}

/// What is known from other tests.
fn seeds(target: &str) -> Vec<Input> {
    match target {
        "frame" => golden(),
        "join" => joins(),
        "token" => tokens(),
        "agent_config" => files(&here().join("../agent/tests/config")),
        "server_config" => files(&here().join("tests/config")),
        other => panic!("{other} has no seeds"),
    }
}

/// Every golden frame of every version.
fn golden() -> Vec<Input> {
    let unhex = |(name, text): Input| {
        let digits: Vec<u8> = text.iter().filter_map(|c| char::from(*c).to_digit(16)).map(|d| d as u8).collect();
        (name, digits.chunks_exact(2).map(|d| d[0] << 4 | d[1]).collect())
    };
    files(&here().join("../shared/tests/golden")).into_iter().map(unhex).collect()
}

/// Each golden frame alone, and joins that come far.
fn joins() -> Vec<Input> {
    let golden = golden();
    let join = golden.iter().find_map(|(_, bytes)| match wire::decode(bytes, STREAM_BYTES_MAX) {
        Ok(Frame::Join(join)) => Some(Join { role: Role::Agent, ..join }),
        _ => None,
    });
    let join = join.expect("a join is among the golden frames");
    let other_key = Join { csr: b"another".to_vec(), ..join.clone() };
    let other_id = Join { id: uuid::Uuid::from_bytes([3; 16]), ..join.clone() };
    let third_id = Join { id: uuid::Uuid::from_bytes([4; 16]), ..join.clone() };
    let wrong_secret = Join { secret: b"guessed".to_vec(), ..join.clone() };
    let conversations = [
        ("let_in", vec![&join]),
        ("said_again", vec![&join, &join]),
        ("taken_by_another_key", vec![&join, &other_key]),
        ("used_up", vec![&join, &other_id, &third_id]),
        ("guessed_and_known", vec![&wrong_secret, &join]),
    ];
    let conversations = conversations.map(|(name, joins)| {
        let frames: Vec<_> = joins.into_iter().map(|j| wire::encode(&Frame::Join(j.clone()))).collect();
        (name.to_owned(), targets::join::conversation(&frames))
    });
    golden.into_iter().map(|(name, frame)| (name, targets::join::conversation(&[frame]))).chain(conversations).collect()
}

fn tokens() -> Vec<Input> {
    let addresses = ["192.0.2.1:4840", "[2001:db8::1]:4840", "home.example:4840"].map(|a| a.parse().unwrap()).to_vec();
    let good = Token { pin: [7; 32], id: "a1b2c3".into(), secret: [9; SECRET_BYTES], addresses }.to_string();
    let named = [("good", good.clone()), ("cut", good[..60].into()), ("newer", good.replace("join-1", "join-2"))];
    named.into_iter().map(|(name, text)| (name.to_owned(), text.into_bytes())).collect()
}

/// The files of a folder and of those in it, in order.
fn files(folder: &Path) -> Vec<Input> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    paths.sort();
    let input = |path: PathBuf| {
        if path.is_dir() {
            return files(&path);
        }
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        vec![(name, fs::read(path).unwrap())]
    };
    paths.into_iter().flat_map(input).collect()
}

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
