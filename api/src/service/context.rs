//! Who asks, and what for.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use tidelake_catalog::base_database;
use tidelake_catalog::model::{INTERNAL_DATABASE, Permissions, Token};
use tokio::time::Instant;

use super::class::QueryClass;
use super::error::{Code, ServiceError};

/// Who asks.
#[derive(Debug, Clone)]
pub enum Principal {
    /// Whoever reaches the port: the server was started without `auth`.
    Anyone,
    /// The holder of a token.
    Holder(Arc<Token>),
}

impl Principal {
    /// As records and logs name it.
    pub fn name(&self) -> &str {
        match self {
            Principal::Anyone => "anyone",
            Principal::Holder(token) => &token.name,
        }
    }
}

/// What is known of a request before it is looked at.
#[derive(Debug, Clone)]
pub struct RequestContext {
    principal: Principal,
    until: Option<Instant>,
    class: QueryClass,
}

/// Something that a request may want to do in a database.
pub trait Action: Send + Sync + 'static {
    /// Any of these allows it.
    const NEEDED: Permissions;
    /// As a refusal says it.
    const VERB: &'static str;
    /// Whether it can be done in the database of what the server records about itself.
    const IS_FOR_INTERNAL: bool;
}

/// The refusal of what would change the records of the server.
pub(super) fn internal_is_kept() -> ServiceError {
    let message =
        format!("what {INTERNAL_DATABASE:?} holds is written and kept by the server alone");
    ServiceError::new(Code::Forbidden, message)
}

macro_rules! action {
    ($(#[$doc:meta])* $name:ident, $needed:expr, $verb:literal, $internal:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub enum $name {}
        impl Action for $name {
            const NEEDED: Permissions = $needed;
            const VERB: &'static str = $verb;
            const IS_FOR_INTERNAL: bool = $internal;
        }
    };
}

action!(
    /// To query.
    Read, Permissions::READ, "read", true
);
action!(
    /// To write points.
    Write, Permissions::WRITE, "write to", false
);
action!(
    /// To delete rows.
    Delete, Permissions::DELETE, "delete from", false
);
action!(
    /// To create and drop, and to set how long rows are kept.
    Admin, Permissions::ADMIN, "administer", true
);

/// The right to do something in a database. Only [`RequestContext`] gives one.
pub struct Access<A> {
    database: Arc<str>,
    principal: Principal,
    until: Option<Instant>,
    class: QueryClass,
    /// Whether nothing of it goes into an answer.
    is_inside: bool,
    action: PhantomData<A>,
}

impl<A> Clone for Access<A> {
    fn clone(&self) -> Self {
        Self {
            database: Arc::clone(&self.database),
            principal: self.principal.clone(),
            until: self.until,
            class: self.class,
            is_inside: self.is_inside,
            action: PhantomData,
        }
    }
}

impl<A> fmt::Debug for Access<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Access({:?}, {:?})",
            self.database,
            self.principal.name()
        )
    }
}

impl<A> Access<A> {
    /// The database.
    pub fn database(&self) -> &Arc<str> {
        &self.database
    }

    /// Who has it.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// What a query is for, as far as its client says so.
    pub fn class(&self) -> QueryClass {
        self.class
    }

    /// Whether it is for the server's own work: a process of any role does that.
    pub(super) fn is_inside(&self) -> bool {
        self.is_inside
    }

    /// When an answer is of no more use, if its client said so.
    pub fn until(&self) -> Option<Instant> {
        self.until
    }
}

/// No right to anything, for what is counted by database and token.
#[derive(Debug, Clone, Copy)]
pub enum Nothing {}

impl Access<Write> {
    /// The right to find out what a write replaces: nothing of it goes into an answer.
    pub(super) fn to_find_replaced(&self) -> Access<Read> {
        Access {
            database: Arc::clone(&self.database),
            principal: self.principal.clone(),
            until: self.until,
            class: self.class,
            is_inside: true,
            action: PhantomData,
        }
    }
}

impl Access<Nothing> {
    /// Of a request that was authorized otherwise.
    pub(super) fn of(context: &RequestContext, database: &str) -> Self {
        Self {
            database: database.into(),
            principal: context.principal.clone(),
            until: context.until,
            class: context.class,
            is_inside: false,
            action: PhantomData,
        }
    }
}

/// The right to do what concerns all databases. Only [`RequestContext`] gives one.
#[derive(Debug, Clone)]
pub struct ServerAccess {
    principal: Principal,
}

impl ServerAccess {
    /// Who has it.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }
}

impl RequestContext {
    /// Of a principal.
    pub fn new(principal: Principal) -> Self {
        Self {
            principal,
            until: None,
            class: QueryClass::default(),
        }
    }

    /// The same for queries of a class.
    pub fn of_class(self, class: QueryClass) -> Self {
        Self { class, ..self }
    }

    /// Its client waits no longer than this.
    pub fn waits_until(&mut self, until: Instant) {
        self.until = Some(until);
    }

    /// Who asks.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// The right to do `A` in a database, whether or not there is one of the name.
    ///
    /// # Errors
    /// [`Code::Forbidden`]; it does not say whether the database exists.
    pub fn access<A: Action>(&self, database: &str) -> Result<Access<A>, ServiceError> {
        if !self.may(database, A::NEEDED) {
            return Err(self.refused(A::VERB, database));
        }
        if base_database(database) == INTERNAL_DATABASE && !A::IS_FOR_INTERNAL {
            return Err(internal_is_kept());
        }
        Ok(Access {
            database: database.into(),
            principal: self.principal.clone(),
            until: self.until,
            class: self.class,
            is_inside: false,
            action: PhantomData,
        })
    }

    /// Whether it may do any of some things in a database.
    pub fn may(&self, database: &str, any: Permissions) -> bool {
        match &self.principal {
            Principal::Anyone => true,
            // A retention policy is a part of its database.
            Principal::Holder(token) => token.allows(base_database(database), any),
        }
    }

    /// The right to do what concerns all databases.
    ///
    /// # Errors
    /// [`Code::Forbidden`]
    pub fn server(&self) -> Result<ServerAccess, ServiceError> {
        match &self.principal {
            Principal::Holder(token) if !token.allows_everything() => {
                let message = format!(
                    "the token {:?} may not do what concerns the whole server: use one that allows \
                     everything in all databases",
                    token.name
                );
                Err(ServiceError::new(Code::Forbidden, message))
            }
            principal => Ok(ServerAccess {
                principal: principal.clone(),
            }),
        }
    }

    fn refused(&self, verb: &str, database: &str) -> ServiceError {
        let shown: String = database.chars().take(80).collect();
        let name = self.principal.name();
        let message = format!("the token {name:?} may not {verb} the database {shown:?}");
        ServiceError::new(Code::Forbidden, message)
    }
}

#[cfg(test)]
impl<A: Action> Access<A> {
    /// For tests of what needs one.
    pub fn of_anyone(database: &str) -> Self {
        let context = RequestContext::new(Principal::Anyone);
        context.access(database).expect("anyone may do anything")
    }
}
