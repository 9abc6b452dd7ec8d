alter table first_things.thing add name text not null default '';
