SELECT id FROM point WHERE haystack_name = %s
