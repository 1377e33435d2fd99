//! What all handlers share.
use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::http::body::BodyBudget;
use crate::http::connections::Connections;
use crate::http::paced_body::Pace;
use crate::service::Service;

/// Shared by all requests.
pub struct App {
    /// Answers them.
    pub service: Service,
    /// Memory for request bodies.
    pub bodies: BodyBudget,
    /// Connections that are open.
    pub(crate) connections: Arc<Connections>,
}

impl App {
    /// Answers `/health` from now on, and the rest when the parts are attached to the service.
    pub fn new(config: Config) -> Arc<Self> {
        let service = Service::new(config);
        let connections = Arc::new(Connections::default());
        service.metrics.add_figures(connections.figures());
        Arc::new(Self {
            bodies: BodyBudget::new(Arc::clone(&service.memory)),
            connections,
            service,
        })
    }

    /// How fast answers must be read, and where they are made.
    pub fn pace(&self) -> Pace {
        Pace {
            write_timeout: Duration::from_millis(self.service.config.write_timeout_ms),
            answer_timeout: self.service.config.query_timeout(),
        }
    }
}
