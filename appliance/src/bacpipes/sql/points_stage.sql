CREATE TEMPORARY TABLE points_stage (
    id               integer,   -- NULL: a new point
    device_id        integer NOT NULL,
    object_type      text    NOT NULL,
    object_instance  integer NOT NULL,
    name             text    NOT NULL,
    dis              text    NOT NULL,
    units            text    NOT NULL,
    equip            text,
    equip_ref        text,
    function         text,
    quantity         text,
    substance        text,
    location         text,
    qualifier        text,
    interval_seconds integer NOT NULL,
    enabled          boolean NOT NULL,
    writable         boolean NOT NULL,
    minimum          double precision,
    maximum          double precision,
    states           integer,
    topic            text,
    line             integer NOT NULL
) ON COMMIT DROP
