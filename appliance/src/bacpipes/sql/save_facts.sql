UPDATE device SET
    max_apdu = coalesce(%(max_apdu)s, max_apdu), segmentation = coalesce(%(segmentation)s, segmentation),
    vendor = coalesce(%(vendor)s, vendor), model = coalesce(%(model)s, model),
    learnt_of = coalesce(%(learnt_of)s, learnt_of), read_multiple = %(read_multiple)s,
    batch_points = %(batch)s, batch_since = %(batch_since)s
WHERE id = %(device)s
