# The source model as it is.
adaptation = dict(type='source')
