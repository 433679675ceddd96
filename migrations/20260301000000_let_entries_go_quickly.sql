-- What makes `importer prune` fast.
-- The foreign key looked through all of penstock.head for each entry that was deleted, and an index for it would have
-- made every update of a head write all of the table's indexes. An entry that a head names is kept by who deletes:
-- under the head's lock, and an import that finds its entry gone begins anew.
-- Both tables are locked for the moment of the change; the release before this one works on without the key.
ALTER TABLE penstock.head DROP CONSTRAINT IF EXISTS head_object;
