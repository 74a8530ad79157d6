DELETE FROM app_session WHERE digest = %s
