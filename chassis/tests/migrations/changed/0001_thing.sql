create table first_things.thing (id integer primary key);
