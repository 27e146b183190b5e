//! Reserved for the control plane: API server, scheduler, controllers, node agent, service proxy and DNS.
//!
//! Holds nothing yet; the README's feature table says so. Called by: nobody.
