//! Makes a change of single services and apps, checked like a whole table.

use std::collections::BTreeMap;

use super::{
    difference::Difference, error::TableError, model::Table, table_changes::TableChanges,
    table_index::TableIndex, validate::check_links,
};

impl Table {
    /// Makes a change, and returns its effect and the changes that undo it. `index` must be that of this
    /// table, and stays so. `source` is the name of the changes in error messages.
    ///
    /// It costs what it changes: the changed services with the apps that use them, and the changed apps with
    /// all their relationships. Only if something seems wrong, the whole table is checked, for the message.
    ///
    /// # Errors
    ///
    /// The mistakes that [`Table::parse`] would find in the changed table. The table is then as before.
    pub fn change(
        &mut self,
        index: &mut TableIndex,
        changes: TableChanges,
        source: &str,
    ) -> Result<(Difference, TableChanges), TableError> {
        let undo = self.replace(changes);
        if index.may_be_broken(self, &undo)
            && let Err(problems) = check_links(self)
        {
            self.replace(undo);
            return Err(TableError::new(source, problems));
        }
        let mut difference = Difference::default();
        let TableChanges { services, apps } = &undo;
        for (name, old) in services {
            difference.add_service(name, old.as_ref(), self.services.get(name));
        }
        for (name, old) in apps {
            difference.add_app(name, old.as_ref(), self.apps.get(name));
        }
        index.update(self, &undo, &difference);
        Ok((difference, undo))
    }

    /// Replaces services and apps, and returns what was there.
    fn replace(&mut self, changes: TableChanges) -> TableChanges {
        fn replace<T>(
            all: &mut BTreeMap<String, T>,
            changes: BTreeMap<String, Option<T>>,
        ) -> BTreeMap<String, Option<T>> {
            let replaced = changes.into_iter().map(|(name, new)| {
                let old = match new {
                    Some(new) => all.insert(name.clone(), new),
                    None => all.remove(&name),
                };
                (name, old)
            });
            replaced.collect()
        }

        let TableChanges { services, apps } = changes;
        TableChanges {
            services: replace(&mut self.services, services),
            apps: replace(&mut self.apps, apps),
        }
    }
}

#[cfg(test)]
mod tests;
