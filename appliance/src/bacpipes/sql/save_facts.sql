UPDATE device SET
    max_apdu = coalesce(%(max_apdu)s, max_apdu), segmentation = coalesce(%(segmentation)s, segmentation),
    vendor = coalesce(%(vendor)s, vendor), model = coalesce(%(model)s, model), read_multiple = %(read_multiple)s
WHERE id = %(device)s
