//! Authentication and authorization of one request: from its secret to its access to a database.

use criterion::{Criterion, criterion_group, criterion_main};
use tidelake_api::config::Config;
use tidelake_api::node::backend::Backend;
use tidelake_api::service::Service;
use tidelake_api::service::context::{Read, RequestContext};
use tidelake_api::service::tokens::{Secret, TokenRequest, create};
use tidelake_catalog::model::{Permissions, Scope};

/// Tokens in the catalog.
const TOKENS: usize = 1000;

fn token_check(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let config = Config {
        auth: true,
        store: Some("memory:".into()),
        ..Config::default()
    };
    let (service, secret) = runtime.block_on(async {
        let service = Service::new(config);
        let opened = Backend::open_alone(&service.config, &service.memory).await;
        service.attach(opened.expect("memory opens"));
        let catalog = service.backend().expect("it is attached").catalog();
        let mut last = String::new();
        for number in 0..TOKENS {
            let secret = Secret::random().expect("random bytes");
            let request = TokenRequest {
                name: format!("token-{number}"),
                scopes: vec![
                    Scope {
                        databases: "other-*".into(),
                        permissions: Permissions::WRITE,
                    },
                    Scope {
                        databases: "team-*".into(),
                        permissions: Permissions::READ,
                    },
                ],
                expires_ms: Some(i64::MAX),
                replaced: false,
            };
            create(catalog, request, &secret).await.expect("a token");
            last = secret.reveal().to_owned();
        }
        (service, last)
    });
    criterion.bench_function("a token of a thousand", |bencher| {
        bencher.iter(|| {
            let principal = service.authenticate(Some(&secret)).expect("it is valid");
            let context = RequestContext::new(principal);
            context.access::<Read>("team-a").expect("it may read")
        });
    });
}

criterion_group!(benches, token_check);
criterion_main!(benches);
