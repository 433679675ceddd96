-- Tags are claimed dataset by dataset, the oldest first, however many wait; and whether one of an object is being written
-- is one look. Commits that make tags due wait while the indexes are made: seconds for a million.
SET LOCAL lock_timeout = '5s';
CREATE INDEX due_item_tag_of_target ON penstock.due_item (target, (at AT TIME ZONE 'UTC'), id) WHERE kind = 'tag';
CREATE INDEX due_item_tag_of_object ON penstock.due_item ((body ->> 'bucket'), (body ->> 'key'), at) WHERE kind = 'tag';
DROP INDEX penstock.due_item_tagged;
