create table first_things.thing (id bigint primary key);
