//! Bindings generated from `wit/`: the host's interfaces once, then one module per world that adds its export.
//!
//! Invariants: a type of an interface exists once, whatever the world; a component imports only what it calls, and exports
//! only what an `export_…!` macro names.

/// Every interface that the host offers.
pub mod host {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package dlm:guest-side;
            world host {
                import dlm:plugin/types@1.0.0;
                import dlm:plugin/run@1.0.0;
                import dlm:plugin/log@1.0.0;
                import dlm:plugin/progress@1.0.0;
                import dlm:plugin/config@1.0.0;
                import dlm:plugin/model@1.0.0;
                import dlm:plugin/secrets@1.0.0;
                import dlm:plugin/artifacts@1.0.0;
                import dlm:plugin/output@1.0.0;
                import dlm:plugin/http@1.0.0;
                import dlm:plugin/upload@1.0.0;
                import dlm:plugin/process@1.0.0;
            }
        ",
        generate_all,
        generate_unused_types: true,
    });
}

/// One world: its module, its name, and the interfaces that it shares with [`host`].
macro_rules! world {
    ($module:ident, $world:literal, $path:literal, $($interface:literal is $shared:ident),+) => {
        #[doc = concat!("The export of the world `", $world, "`.")]
        pub mod $module {
            wit_bindgen::generate!({
                path: "../../wit",
                world: $world,
                pub_export_macro: true,
                default_bindings_module: $path,
                with: { $($interface: crate::bindings::host::dlm::plugin::$shared),+ },
            });
        }
    };
}

world!(
    judge,
    "judge-plugin",
    "dlm_plugin::bindings::judge",
    "dlm:plugin/types@1.0.0" is types,
    "dlm:plugin/run@1.0.0" is run,
    "dlm:plugin/log@1.0.0" is log,
    "dlm:plugin/progress@1.0.0" is progress,
    "dlm:plugin/config@1.0.0" is config,
    "dlm:plugin/model@1.0.0" is model,
    "dlm:plugin/secrets@1.0.0" is secrets,
    "dlm:plugin/http@1.0.0" is http,
    "dlm:plugin/process@1.0.0" is process
);

world!(
    teacher,
    "teacher-plugin",
    "dlm_plugin::bindings::teacher",
    "dlm:plugin/types@1.0.0" is types,
    "dlm:plugin/run@1.0.0" is run,
    "dlm:plugin/log@1.0.0" is log,
    "dlm:plugin/progress@1.0.0" is progress,
    "dlm:plugin/config@1.0.0" is config,
    "dlm:plugin/model@1.0.0" is model,
    "dlm:plugin/secrets@1.0.0" is secrets,
    "dlm:plugin/http@1.0.0" is http
);

world!(
    target,
    "target-plugin",
    "dlm_plugin::bindings::target",
    "dlm:plugin/types@1.0.0" is types,
    "dlm:plugin/run@1.0.0" is run,
    "dlm:plugin/log@1.0.0" is log,
    "dlm:plugin/progress@1.0.0" is progress,
    "dlm:plugin/config@1.0.0" is config,
    "dlm:plugin/secrets@1.0.0" is secrets,
    "dlm:plugin/http@1.0.0" is http,
    "dlm:plugin/artifacts@1.0.0" is artifacts,
    "dlm:plugin/upload@1.0.0" is upload,
    "dlm:plugin/output@1.0.0" is output,
    "dlm:plugin/process@1.0.0" is process
);

world!(
    destination,
    "push-plugin",
    "dlm_plugin::bindings::destination",
    "dlm:plugin/types@1.0.0" is types,
    "dlm:plugin/run@1.0.0" is run,
    "dlm:plugin/log@1.0.0" is log,
    "dlm:plugin/progress@1.0.0" is progress,
    "dlm:plugin/config@1.0.0" is config,
    "dlm:plugin/secrets@1.0.0" is secrets,
    "dlm:plugin/http@1.0.0" is http,
    "dlm:plugin/artifacts@1.0.0" is artifacts,
    "dlm:plugin/upload@1.0.0" is upload
);

world!(
    templates,
    "template-plugin",
    "dlm_plugin::bindings::templates",
    "dlm:plugin/types@1.0.0" is types,
    "dlm:plugin/run@1.0.0" is run,
    "dlm:plugin/log@1.0.0" is log,
    "dlm:plugin/progress@1.0.0" is progress,
    "dlm:plugin/config@1.0.0" is config,
    "dlm:plugin/secrets@1.0.0" is secrets,
    "dlm:plugin/http@1.0.0" is http,
    "dlm:plugin/artifacts@1.0.0" is artifacts
);
