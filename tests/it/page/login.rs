//! How the page lets people log in.

use portolan::config::{Extensions, Searching, UserInterface};

use super::html;
use crate::support::{
    client::{Ask as _, Request},
    gate,
    mesh::{MEMBERS, Plan},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_a_choice_is_asked_for_a_password_once_they_have_made_it() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    let hash = bcrypt::hash("secret", 4).unwrap();
    std::fs::write(&users, format!("ann:{hash}\n")).unwrap();
    // Nobody answers there, which is for later.
    let gate = gate(&format!(
        "{{auth: {{htpasswd: {{path: {}}}, openid: {{providers: {{oidc: {{name: Ours, issuer: 'http://127.0.0.1:1', \
         clientid: a, clientsecret: b}}}}}}}}}}",
        users.display()
    ));
    let extensions = Extensions {
        search: Searching::On,
        ui: UserInterface::On,
        ..Extensions::default()
    };
    let mesh = Plan::new().gate(gate).extensions(extensions).start().await;
    let shown = |password: &str| {
        let engine = &base64::engine::general_purpose::STANDARD;
        let text = base64::Engine::encode(engine, format!("ann:{password}"));
        format!("Basic {text}")
    };
    for member in 0..MEMBERS {
        let client = mesh.client(member);
        for path in ["/", "/image/a:t", "/keys", "/mesh"] {
            let refused = client.get(path.to_owned()).await.unwrap().expect(401);
            let refused = refused.lacks("www-authenticate");
            assert!(html(&refused).contains("href=\"/login\""), "{refused}");
        }
        let ways = client.get("/login".to_owned()).await.unwrap().expect(200);
        for way in ["provider=oidc", "/login?by=password"] {
            assert!(html(&ways).contains(way), "{ways}");
        }
        let by_password = async |authorization: Option<String>| {
            let mut request = Request::get("/login?by=password");
            if let Some(authorization) = authorization {
                request = request.header("authorization", authorization);
            }
            client.ask(request).await.unwrap()
        };
        let challenge = "Basic realm=\"Portolan\", charset=\"UTF-8\"";
        for authorization in [None, Some(shown("wrong"))] {
            let asked = by_password(authorization).await.expect(401);
            asked.with("www-authenticate", challenge);
        }
        let answer = by_password(Some(shown("secret"))).await.expect(303);
        answer.with("location", "/");
    }
    mesh.stop().await;
}
