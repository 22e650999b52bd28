//! API keys over HTTP: who sees and revokes whose, what makes one, and what becomes of them with their user's password.

use std::fs;

use serde_json::{Value, json};

use super::{
    OTHER, OWNER,
    world::{Recorded, World, basic, password},
};
use crate::support::{
    client::{Answer, Ask as _, Client, Http, Request},
    eventually,
};

const DESK: &str = "/zot/auth/apikey";

fn caller(world: &World, user: &str, door: usize, http: Http) -> Recorded {
    Recorded {
        client: Client::new(world.mesh.door(door), http),
        authorization: vec![basic(user, &password(user))],
        more: Vec::new(),
    }
}

async fn make(caller: &Recorded, wish: &str) -> Answer {
    caller
        .ask(Request::post(DESK).body(wish.to_owned()))
        .await
        .unwrap()
}

/// The keys that an answer lists, as user and id.
fn listed(answer: &Answer) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let keys = answer.json()["apiKeys"].as_array().unwrap().clone();
    keys.iter()
        .map(|key| (text(&key["user"]), text(&key["uuid"])))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn administrators_list_and_revoke_everybodys_keys_and_nobody_else_does() {
    let world = World::new().await;
    for (door, http) in [(OWNER, Http::One), (OTHER, Http::Two)] {
        let (root, otto) = (
            caller(&world, "root", door, http),
            caller(&world, "otto", door, http),
        );
        let key = make(&otto, "{\"label\": \"ci\"}").await.expect(201).json();
        let (id, text) = (key["uuid"].as_str().unwrap(), key["apiKey"].as_str().unwrap());
        let with_key = Recorded {
            client: Client::new(world.mesh.door(OTHER), http),
            authorization: vec![basic("otto", text)],
            more: Vec::new(),
        };
        with_key.get("/v2/".to_owned()).await.unwrap().expect(200);

        let ottos = ("otto".to_owned(), id.to_owned());
        let of_otto = root.get(format!("{DESK}?user=otto")).await.unwrap().expect(200);
        assert_eq!(listed(&of_otto), std::slice::from_ref(&ottos));
        let all = root.get(format!("{DESK}?all=true")).await.unwrap().expect(200);
        assert!(listed(&all).contains(&ottos), "{all}");
        assert!(listed(&all).iter().any(|(user, _)| user == "root"), "{all}");
        assert!(
            !String::from_utf8_lossy(&all.body).contains("zak_"),
            "a key is shown once"
        );

        let revoke = format!("{DESK}?user=otto&id={id}");
        for other in ["reader", "otto"] {
            let other = caller(&world, other, door, http);
            for target in [format!("{DESK}?user=root"), format!("{DESK}?all=true")] {
                other.get(target).await.unwrap().error(403, "DENIED");
            }
            other.delete(revoke.clone()).await.unwrap().error(403, "DENIED");
        }
        // Not even by a key of an administrator's.
        let scoped = world.caller("scoped key", door, "team/a");
        scoped
            .get(format!("{DESK}?all=true"))
            .await
            .unwrap()
            .error(403, "DENIED");
        root.delete(format!("{DESK}?id={id}")).await.unwrap().expect(404);
        with_key.get("/v2/".to_owned()).await.unwrap().expect(200);

        root.delete(revoke.clone()).await.unwrap().expect(200);
        with_key.get("/v2/".to_owned()).await.unwrap().expect(401);
        root.delete(revoke).await.unwrap().expect(404);
        let all = root.get(format!("{DESK}?all=true")).await.unwrap().expect(200);
        assert!(listed(&all).iter().all(|(user, _)| user != "otto"), "{all}");
    }
    world.mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_have_been_meant_to_bound_a_key_makes_none() {
    let world = World::new().await;
    for (door, http) in [(OWNER, Http::One), (OTHER, Http::Two)] {
        let otto = caller(&world, "otto", door, http);
        for wish in [
            "{\"Scopes\": [\"repository:public/**:read\"]}",
            "{\"scope\": [\"repository:public/**:read\"]}",
            "{\"expiration\": \"2030-01-01T00:00:00Z\"}",
            "{\"ExpirationDate\": \"2030-01-01T00:00:00Z\"}",
            "{\"scopes\": null}",
            "{\"scopes\": \"repository:public/**:read\"}",
            "{\"scopes\": [], \"scopes\": []}",
            "{\"scopes\": [\"repository:/public/**:read\"]}",
            "{\"scopes\": [\"repository:Public/**:read\"]}",
            "{\"scopes\": [\"repository:public/**:pull\"]}",
            "[]",
            "[\"x\", [\"repository:public/**:read\"], \"\"]",
            " [\"x\"]",
            "null",
            "\"\"",
            "",
            "{}}",
        ] {
            let answer = make(&otto, wish).await;
            assert_eq!(answer.status, 400, "{wish}: {answer}");
        }
        let none = otto.get(DESK.to_owned()).await.unwrap().expect(200);
        assert_eq!(listed(&none), []);
    }
    let otto = caller(&world, "otto", OTHER, Http::One);
    let wish = json!({ "label": "x", "scopes": ["repository:public/**:read"], "expirationDate": "2100-01-01T00:00:00Z" });
    let made = make(&otto, &format!(" {wish}\n")).await.expect(201).json();
    assert_eq!(
        (&made["scopes"], &made["expirationDate"]),
        (&wish["scopes"], &wish["expirationDate"])
    );
    world.mesh.stop().await;
}

/// One edit removes a user, adds one whose hash isn't taken, adds one whose is, and names another twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_line_of_the_password_file_keeps_nobody_in_and_nobody_else_out() {
    let world = World::new().await;
    let status = async |user: &str, password: &str, door: usize, http: Http| {
        let client = Recorded {
            client: Client::new(world.mesh.door(door), http),
            authorization: vec![basic(user, password)],
            more: Vec::new(),
        };
        client.get("/v2/".to_owned()).await.unwrap().status
    };
    let otto = caller(&world, "otto", OTHER, Http::One);
    let key = make(&otto, "{}").await.expect(201).json();
    let key = key["apiKey"].as_str().unwrap();
    assert_eq!(status("otto", key, OWNER, Http::Two).await, 200);

    let file = world.folder.path().join("users");
    let before = fs::read_to_string(&file).unwrap();
    let kept: Vec<&str> = before.lines().filter(|line| !line.starts_with("otto:")).collect();
    let newer = bcrypt::hash("newer", 4).unwrap();
    let edited = format!(
        "{}\nmd5:$apr1$x$y\nno line\nnew:{}\nreader:{newer}\nmover:locked\n",
        kept.join("\n"),
        // `openssl passwd -6 -salt 'rounds=1000$salt' secret`
        SECRET_IN_SHA512_CRYPT,
    );
    fs::write(&file, edited).unwrap();
    for (door, http) in [(OWNER, Http::One), (OTHER, Http::Two)] {
        eventually("the new user logs in", || async {
            status("new", "secret", door, http).await == 200
        })
        .await;
        for (user, secret, expected) in [
            ("otto", &*password("otto"), 401),
            ("otto", key, 401),
            ("md5", "", 401),
            ("new", "Secret", 401),
            ("reader", &*password("reader"), 401),
            ("reader", "newer", 200),
            ("mover", &*password("mover"), 401),
            ("writer", &*password("writer"), 200),
        ] {
            assert_eq!(
                status(user, secret, door, http).await,
                expected,
                "{user} through {door}"
            );
        }
    }
    // The key wasn't deleted, only refused.
    fs::write(&file, before).unwrap();
    for (door, http) in [(OWNER, Http::Two), (OTHER, Http::One)] {
        eventually("the key works again", || async {
            status("otto", key, door, http).await == 200
        })
        .await;
    }
    world.mesh.stop().await;
}

const SECRET_IN_SHA512_CRYPT: &str = "$6$rounds=1000$salt$HNxBeBnDfSfUrTj6KiLnmd7tGCvHEmcExh8kl/S0cZ5WrCciNZgfhbpkeFQ4JfkHX.8vPq45lY0iINnCx1Lkm.";

/// A client that logs in by a key beside a name.
fn by_key(world: &World, user: &str, key: &str, door: usize, http: Http) -> Recorded {
    Recorded {
        client: Client::new(world.mesh.door(door), http),
        authorization: vec![basic(user, key)],
        more: Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn robots_are_made_by_administrators_and_outlive_everybody() {
    let world = World::new().await;
    let robot = |name: &str| format!("{DESK}?robot={name}");
    let ask = async |caller: &Recorded, target: &str, wish: &Value| {
        let request = Request::post(target.to_owned()).body(wish.to_string());
        caller.ask(request).await.unwrap()
    };
    let file = world.folder.path().join("users");
    let before = fs::read_to_string(&file).unwrap();
    for (door, http) in [(OWNER, Http::One), (OTHER, Http::Two)] {
        let root = caller(&world, "root", door, http);
        let name = format!("build-{door}");
        let wish = json!({ "label": "farm", "groups": ["writers"], "scopes": ["repository:team/**:read"] });
        for other in ["reader", "otto"] {
            let other = caller(&world, other, door, http);
            ask(&other, &robot(&name), &wish).await.error(403, "DENIED");
        }
        for machine in ["scoped key", "robot"] {
            let machine = world.caller(machine, door, "");
            ask(&machine, &robot(&name), &wish).await.error(403, "DENIED");
        }
        for (name, wish) in [
            ("Build", json!({})),
            ("a%3Ab", json!({})),
            ("robot+a", json!({})),
            ("", json!({})),
            ("a", json!({ "groups": [""] })),
            ("a", json!({ "groups": "writers" })),
            ("a", json!({ "Groups": ["writers"] })),
        ] {
            assert_eq!(ask(&root, &robot(name), &wish).await.status, 400, "{name} {wish}");
        }
        // Nor is it taken for a key of one's own where the name is forgotten.
        for query in ["?robot", "?robot=", "?a=b&robot"] {
            let answer = ask(&root, &format!("{DESK}{query}"), &json!({})).await;
            assert_eq!(answer.status, 400, "{query}: {answer}");
        }
        // Nobody gives themselves a group.
        assert_eq!(
            ask(&root, DESK, &json!({ "groups": ["writers"] })).await.status,
            400
        );

        let made = ask(&root, &robot(&name), &wish).await.expect(201).json();
        let user = format!("robot+{name}");
        assert_eq!(
            (&made["user"], &made["groups"]),
            (&json!(user), &json!(["writers"]))
        );
        assert_eq!(made["lastUsed"], json!("0001-01-01T00:00:00Z"));
        let key = made["apiKey"].as_str().unwrap();
        let machine = by_key(&world, &user, key, OTHER, http);
        machine
            .get("/v2/team/none/tags/list".to_owned())
            .await
            .unwrap()
            .expect(404);
        machine.start("team/none").await.unwrap().error(403, "DENIED");
        let of = format!("{DESK}?user={user}");
        eventually("it is told when the key was used", || async {
            let listed = root.get(of.clone()).await.unwrap().expect(200).json();
            let used = listed["apiKeys"][0]["lastUsed"].as_str().unwrap().to_owned();
            used.as_str() > "2020"
        })
        .await;

        // Who made it leaves, and with them everybody.
        fs::write(&file, "").unwrap();
        for there in [OWNER, OTHER] {
            let root = caller(&world, "root", there, http);
            eventually("root has left", || async {
                root.get("/v2/".to_owned()).await.unwrap().status == 401
            })
            .await;
            let machine = by_key(&world, &user, key, there, http);
            machine
                .get("/v2/team/none/tags/list".to_owned())
                .await
                .unwrap()
                .expect(404);
        }
        fs::write(&file, &before).unwrap();
        eventually("root is back", || async {
            root.get("/v2/".to_owned()).await.unwrap().status == 200
        })
        .await;

        // A second key, and the end of all.
        ask(&root, &robot(&name), &json!({})).await.expect(201);
        let end = format!("{DESK}?user={user}&all=true");
        let otto = caller(&world, "otto", door, http);
        otto.delete(end.clone()).await.unwrap().error(403, "DENIED");
        for wrong in ["?all=true", "?all=true&user=otto&id=0", "?all=yes&user=otto"] {
            let answer = root.delete(format!("{DESK}{wrong}")).await.unwrap();
            assert_eq!(answer.status, 400, "{wrong}: {answer}");
        }
        root.delete(end.clone()).await.unwrap().expect(200);
        machine.get("/v2/".to_owned()).await.unwrap().expect(401);
        root.delete(end).await.unwrap().expect(404);
    }
    world.mesh.stop().await;
}
