//! The import `config`: settings of this plugin, checked before it is opened.

use dlm_packages::manifest::ConfigValue as Setting;

use super::State;
use super::wit::config;

fn wire(setting: &Setting) -> config::Value {
    match setting {
        Setting::Text(text) => config::Value::Text(text.clone()),
        Setting::Integer(number) => config::Value::Integer(*number),
        Setting::Number(number) => config::Value::Number(*number),
        Setting::Boolean(is) => config::Value::Boolean(*is),
        Setting::Json(json) => config::Value::Json(json.clone()),
    }
}

impl config::Host for State {
    fn get(&mut self, key: String) -> wasmtime::Result<Option<config::Value>> {
        let found = self.new.settings.iter().find(|(name, _)| *name == key);
        Ok(found.map(|(_, setting)| wire(setting)))
    }

    /// Sorted by name.
    fn all(&mut self) -> wasmtime::Result<Vec<(String, config::Value)>> {
        let settings = self.new.settings.iter();
        let mut all: Vec<_> = settings.map(|(name, setting)| (name.clone(), wire(setting))).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(all)
    }
}
